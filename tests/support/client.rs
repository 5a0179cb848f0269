//! A blocking client: sends what it is told, reads replies one by one, keeps their bytes.

use super::value::{Value, parse};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

/// Commands that [`Client::call_all`] sends before it reads.
const BATCH_COUNT: usize = 200;

/// A connection with the bytes that have come in and were not asked for yet.
pub struct Client {
    stream: TcpStream,
    incoming: Vec<u8>,
    /// Where in `incoming` the next reply begins.
    start: usize,
}

impl Client {
    pub fn connect(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        stream.set_write_timeout(Some(super::PATIENCE))?;
        Ok(Client {
            stream,
            incoming: Vec::new(),
            start: 0,
        })
    }

    /// Sends one command and reads its reply.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.try_call(args)
            .unwrap_or_else(|error| panic!("the connection failed: {error}"))
    }

    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> std::io::Result<Value> {
        self.send(&encode(args))?;
        self.try_reply()
    }

    /// Sends commands, some hundred at a time before their replies are read; the replies.
    #[track_caller]
    pub fn call_all<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Value> {
        let mut replies = Vec::with_capacity(commands.len());
        for batch in commands.chunks(BATCH_COUNT) {
            let bytes: Vec<u8> = batch.iter().flat_map(|words| encode(words)).collect();
            self.send(&bytes).expect("the server reads");
            replies.extend(batch.iter().map(|_| self.reply()));
        }
        replies
    }

    /// `call` with the words of one line.
    #[track_caller]
    pub fn line(&mut self, line: &str) -> Value {
        self.call(&line.split(' ').collect::<Vec<_>>())
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply, of whatever kind.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        self.try_reply()
            .unwrap_or_else(|error| panic!("the connection failed: {error}"))
    }

    pub fn try_reply(&mut self) -> std::io::Result<Value> {
        Ok(self.try_raw_reply()?.0)
    }

    /// The next reply and its bytes.
    pub fn try_raw_reply(&mut self) -> std::io::Result<(Value, Vec<u8>)> {
        loop {
            if let Some((value, length)) = parse(&self.incoming[self.start..]) {
                let raw = self.incoming[self.start..self.start + length].to_vec();
                self.start += length;
                if self.start == self.incoming.len() {
                    self.incoming.clear();
                    self.start = 0;
                }
                return Ok((value, raw));
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.incoming.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.incoming.split_off(self.start);
        self.incoming.clear();
        self.start = 0;
        // A reset is an end, too.
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// The bytes of a request.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
