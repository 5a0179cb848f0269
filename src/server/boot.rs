//! From the command line to the shards' loops.
//!
//! Order matters to those who watch: the configuration is read and checked before anything is bound, sockets are bound
//! before a thread is started (a taken port must end the process with Redis's message), `Ready to accept connections`
//! is the last line before service.

use super::crash;
use super::listeners::Listeners;
use super::log::Log;
use super::process::{self, OomScore, PidFile};
use super::reactor::Reactor;
use super::shared::{Listening, Shared};
use super::signals;
use super::syslog::Syslog;
use super::title::Title;
use crate::base::clock::{Clock, UnixMs};
use crate::base::random::Random;
use crate::base::slot::SLOT_COUNT;
use crate::client::ClientTable;
use crate::command::FAMILIES;
use crate::config::{Config, ConfigFileError, Effect, Invocation, REDIS_VERSION, Settings};
use crate::durability::aof::check::{self, Action, Request};
use crate::durability::directory::{Denied, Owned};
use crate::durability::load::{Load, LoadError, Threads};
use crate::durability::start::{self, Start};
use crate::engine::aof::Aof;
use crate::engine::listening::Hearers;
use crate::engine::local::{Executor, LocalHandle, LocalOptions};
use crate::engine::log::LogSwitch;
use crate::engine::node::Surroundings;
use crate::engine::replication::Replication;
use crate::engine::snapshot::Snapshots;
use crate::engine::{Local, Node, Registry};
use crate::net::{UringOptions, UringPlane};
use crate::replication::replica::{self, Errands};
use crate::runtime::disk::{Disk, HostDisk};
use crate::runtime::{self, ShardHandle};
use crate::shard::link::{self, Port};
use crate::shard::turns::Turns;
use crate::shard::{Realm, ShardId, TicketSource};
use crate::stats::Memory;
use crate::stats::MemoryAccount;
use crate::store::{Cut, HashSeed, Occupancy};
use std::ffi::OsString;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of all rings by which a shard writes to the others, and of each of them: a pass of a busy shard writes less than
/// the smaller bound, and what does not fit waits with its sender. They count as used memory, n * (n - 1) rings for n shards.
const LINKS_BYTES_MAX: usize = 1024 * 1024;
const LINK_BYTES: std::ops::RangeInclusive<usize> = 32 * 1024..=64 * 1024;

fn link_bytes(shards: usize) -> usize {
    (LINKS_BYTES_MAX / shards.next_power_of_two()).clamp(*LINK_BYTES.start(), *LINK_BYTES.end())
}

/// How long the health check waits for an answer.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// Runs the program that these arguments (without its name) ask for.
pub fn run(arguments: &[OsString]) -> ExitCode {
    match Invocation::parse(arguments) {
        Ok(Invocation::Serve(config)) => serve(config, arguments),
        Ok(Invocation::Version) => {
            print!("{}", Invocation::version_text());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Help) => {
            print!("{}", Invocation::help_text());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Ping(address)) => ping(&address),
        Ok(Invocation::CheckAof {
            file,
            fixes,
            truncates_to,
        }) => check_aof(file.into(), fixes, truncates_to),
        Ok(Invocation::CheckSystem) => check_system(),
        Ok(Invocation::TestMemory(megabytes)) => test_memory(megabytes),
        Ok(Invocation::Misused(text)) => {
            eprint!("{text}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprint!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says PING to the server at `address`; the health check of containers.
fn ping(address: &str) -> ExitCode {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PING_PATIENCE))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 64];
        let count = stream.read(&mut answer)?;
        Ok(answer[..count].to_vec())
    };
    match ask() {
        // A server that wants a password is alive.
        Ok(answer) if answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH") => ExitCode::SUCCESS,
        Ok(answer) => fail(format!("{address} answered {}", answer.escape_ascii())),
        Err(error) => fail(format!("{address}: {error}")),
    }
}

/// Looks at what of this system stands in the way.
fn check_system() -> ExitCode {
    match runtime::probe_io_uring() {
        Ok(()) => {
            println!("[io_uring] OK");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("[io_uring] {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes patterns into that much memory and reads them back.
fn test_memory(megabytes: usize) -> ExitCode {
    const WORDS_EACH_MEGABYTE: usize = (1 << 20) / 8;
    for pattern in [0u64, u64::MAX, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
        let words = std::hint::black_box(vec![pattern; megabytes * WORDS_EACH_MEGABYTE]);
        if let Some(index) = words.iter().position(|&word| word != pattern) {
            return fail(format!(
                "Your memory is broken: byte {} of the test area lost {pattern:#x}.",
                index * 8
            ));
        }
    }
    println!("Your memory passed this test.");
    ExitCode::SUCCESS
}

fn serve(config: Config, arguments: &[OsString]) -> ExitCode {
    let settings = config.shared_settings();
    if process::should_detach(&settings) {
        return match process::detach(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(format!("Can't run in the background: {error}")),
        };
    }
    process::leave_terminal();
    if let Err(reason) = process::enter_directory(&settings) {
        return fail(reason);
    }
    let owned = match Owned::take(Path::new(".")) {
        Ok(owned) => owned,
        Err(denied) => return fail(denied.to_string()),
    };
    let log = Log::install();
    log.set_level(settings.loglevel);
    if settings.syslog_enabled {
        log.set_syslog(Syslog::open(
            &settings.syslog_ident.to_string_lossy(),
            settings.syslog_facility,
        ));
    }
    let logfile = settings.logfile.as_path();
    if let Err(error) = log.set_file(logfile) {
        return fail(format!("Can't open the log file '{}': {error}", logfile.display()));
    }
    let registry = match build_registry(&config) {
        // As long as the process: a shared count would be written by every shard with every request.
        Ok(registry) => &*Box::leak(Box::new(registry)),
        Err(error) => {
            eprint!("{error}");
            return ExitCode::FAILURE;
        }
    };
    crash::follow(&settings);
    crash::install(&log, registry);
    tracing::info!("oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo");
    tracing::info!(
        "Redis version={REDIS_VERSION}, bits={}, shardis version={}, pid={}, just started",
        usize::BITS,
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    match config.file() {
        Some(_) => tracing::info!("Configuration loaded"),
        None if !arguments.is_empty() => tracing::info!("Configuration loaded"),
        None => tracing::warn!("Warning: no config file specified, using the default config."),
    }
    if let Err(error) = runtime::probe_io_uring() {
        tracing::warn!("{error}");
        return fail(error.to_string());
    }
    process::disable_huge_pages(&settings);
    let title = match settings.set_proc_title {
        // SAFETY: the threads of the shards and of the signals are started below. The arguments and the environment were
        // copied when they were read.
        true => unsafe {
            Title::claim(
                config
                    .file()
                    .map_or_else(String::new, |file| file.display().to_string()),
            )
        },
        false => None,
    };
    for parameter in config.without_effect() {
        tracing::warn!(
            "The parameter '{}' is kept, and has no effect in this version.",
            parameter.name
        );
    }
    match start(config, &settings, &log, registry, title, owned) {
        Ok(running) => running.wait(),
        Err(reason) => {
            tracing::warn!("{reason}");
            // A supervisor may look at neither the log file nor stdout.
            fail(reason)
        }
    }
}

/// Checks an append-only file; what would be cut off is asked for on the terminal.
fn check_aof(file: PathBuf, fixes: bool, truncates_to: Option<u64>) -> ExitCode {
    let action = match truncates_to {
        Some(second) => Action::TruncateTo(second),
        None if fixes => Action::Fix,
        None => Action::Look,
    };
    let agrees = || {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).is_ok() && answer.trim_start().to_ascii_lowercase().starts_with('y')
    };
    let disk: Arc<dyn Disk> = Arc::new(HostDisk);
    match check::check(&disk, &Request { file, action }, agrees, &mut std::io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.to_string()),
    }
}

/// Says on stderr why the server does not start.
fn fail(reason: String) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}

fn build_registry(config: &Config) -> Result<Registry, ConfigFileError> {
    let mut renames = Vec::new();
    for directive in config.renamed_commands() {
        let [old, new] = directive.words.as_slice() else {
            return Err(directive.error("wrong number of arguments"));
        };
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        renames.push((text(old), text(new)));
        if let Err(reason) = Registry::new(FAMILIES, &renames) {
            return Err(directive.error(reason));
        }
    }
    Ok(Registry::new(FAMILIES, &renames).expect("each prefix of the renames was tried"))
}

/// A server in service.
struct Running {
    handles: Vec<ShardHandle<()>>,
    leavings: Arc<OnceLock<Leavings>>,
    has_unix_socket: bool,
}

/// Files that say that the process is there.
struct Leavings {
    pid_file: PidFile,
    unix_socket: Option<PathBuf>,
}

impl Leavings {
    fn remove(&self) {
        self.pid_file.remove();
        if let Some(path) = &self.unix_socket {
            tracing::info!("Removing the unix socket file.");
            // Somebody else may have been quicker.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The last line of a log.
fn say_goodbye() {
    tracing::warn!("Redis is now ready to exit, bye bye...");
}

impl Running {
    /// Waits for the end of service, and cleans up.
    fn wait(self) -> ExitCode {
        self.clean_up();
        say_goodbye();
        ExitCode::SUCCESS
    }

    /// Waits for the shards, and leaves nothing behind.
    fn clean_up(self) {
        for handle in self.handles {
            handle.join();
        }
        if let Some(leavings) = self.leavings.get() {
            leavings.remove();
        }
    }
}

/// Binds the sockets and starts the shards.
fn start(
    config: Config,
    settings: &Arc<Settings>,
    log: &Log,
    registry: &'static Registry,
    title: Option<Title>,
    owned: Owned,
) -> Result<Running, String> {
    let began = Instant::now();
    let cpus = process::chosen_cpus(settings, runtime::allowed_cpus());
    let shards = match settings.shards {
        0 => runtime::shard_count_default().min(cpus.len()).max(1),
        count => count as usize,
    };
    let possible = process::raise_descriptor_limit(u64::from(settings.maxclients), shards);
    let config = if possible < u64::from(settings.maxclients) {
        config.changed(|settings| settings.maxclients = possible as u32)
    } else {
        config
    };
    let listeners = Listeners::bind(settings, shards)?;
    let unix_socket = listeners.unix_path().map(Path::to_path_buf);
    let listening: Vec<Listening> = (0..shards).map(|index| listeners.of_shard(index)).collect();
    let oom_score = OomScore::read();
    // What fails is in the log; the server starts all the same.
    let _ = oom_score.apply(settings);
    process::set_allocator_thread(settings);
    if let Some(title) = &title {
        title.show(settings);
    }
    let mut random = Random::from_entropy();
    let shared = Arc::new(Shared::new(shards));
    let memory = MemoryAccount::new(shards);
    let cut = Arc::new(Cut::new(SLOT_COUNT as u16, memory.captured_bytes().clone()));
    let turns = Arc::new(Turns::new(shards));
    let disk = Arc::new(HostDisk);
    let snapshots = Arc::new(Snapshots::new(disk.clone(), cut.clone(), shards, UnixMs::now()));
    let log_switch = LogSwitch::default();
    let aof = Aof::new(
        disk,
        turns.clone(),
        snapshots.clone(),
        log_switch.clone(),
        settings,
        false,
    );
    let bells = shared.clone();
    turns.durable.ring_by(Box::new(move |shard| {
        if let Some(wake) = bells.wake_handle(usize::from(shard.0)) {
            wake.wake();
        }
    }));
    let leavings = Arc::new(OnceLock::new());
    let node = Arc::new(Node {
        started_at: UnixMs::now(),
        run_id: random.random_hex(40),
        shards,
        clients: ClientTable::new(),
        command_count: registry.all().len(),
        config: Mutex::new(config),
        executable: std::env::current_exe()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        memory,
        occupancy: Arc::new(Occupancy::new(SLOT_COUNT)),
        attention: Default::default(),
        cut,
        snapshots,
        aof: Arc::new(aof),
        log_switch,
        turns,
        hearers: Arc::new(Hearers::new(shards)),
        replication: Replication::new(random.random_hex(40)),
        loading: Default::default(),
        busy_scripts: Default::default(),
        scripts: Default::default(),
        shutdown: Mutex::new(None),
        surroundings: Box::new(Process {
            shared: shared.clone(),
            listeners: Mutex::new(listeners),
            log: log.clone(),
            shards,
            title,
            oom_score,
            owned: Mutex::new(owned),
            leavings: leavings.clone(),
        }),
    });
    let placement: Vec<Option<usize>> = (0..shards)
        .map(|index| (settings.pin_shards && !cpus.is_empty()).then(|| cpus[index % cpus.len()]))
        .collect();
    let has_logo = settings.always_show_logo || log.is_terminal();
    let banner = banner(settings, &placement, has_logo);
    match has_logo {
        true => log.write_raw(&banner),
        false => tracing::info!("{banner}"),
    }
    let has_unix_socket = unix_socket.is_some();
    let pid_file = PidFile::write(settings);
    leavings.get_or_init(|| Leavings { pid_file, unix_socket });
    tracing::info!("Server initialized");
    let realm = Realm {
        shard_count: shards as u16,
        slot_count: SLOT_COUNT as u16,
        tickets: TicketSource::new(),
    };
    let seed = HashSeed([random.next_u64(), random.next_u64()]);
    let start = Start {
        seed,
        now: UnixMs::now(),
        threads: Threads::Host,
    };
    let load = start::begin(&node, settings, start, process::is_alive)?;
    let errands = Arc::new(Errands::default());
    replica::prepare(&node, registry, &errands);
    let ports = link::connect(shards as u16, link_bytes(shards));
    // Before anyone can connect: who gets an answer may end the server with a signal.
    signals::watch(node.clone()).map_err(|error| format!("Can't wait for signals: {error}"))?;
    let mut handles = Vec::new();
    for (index, (port, listening)) in ports.into_iter().zip(listening).enumerate() {
        let parts = ShardParts {
            index,
            node: node.clone(),
            registry,
            realm: realm.clone(),
            seed,
            port,
            shared: shared.clone(),
            listening,
            load: load.clone(),
            errands: (index == 0).then(|| errands.clone()),
        };
        match runtime::spawn_shard(index, placement[index], move || run_shard(parts)) {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                shared.stop();
                return Err(error.to_string());
            }
        }
    }
    let memory = Memory::read(&node.memory);
    node.memory.note_start(memory.allocated);
    let seconds = began.elapsed().as_secs_f64();
    tracing::info!(
        "{shards} shard{} started in {seconds:.3} seconds",
        if shards == 1 { "" } else { "s" }
    );
    let running = Running {
        handles,
        leavings,
        has_unix_socket,
    };
    if let Some(load) = load {
        match run_load(&load, &node) {
            Ok(Loaded::Whole) => {}
            Ok(Loaded::Stopped) => return Ok(running),
            Err(error) => {
                shared.stop();
                running.clean_up();
                return Err(error);
            }
        }
    }
    if settings.port != 0 {
        tracing::info!("Ready to accept connections tcp");
    }
    if running.has_unix_socket {
        tracing::info!("Ready to accept connections unix");
    }
    process::tell_supervisor(settings);
    Ok(running)
}

/// What has become of a data set.
enum Loaded {
    Whole,
    /// The process is to end.
    Stopped,
}

/// Reads the data set. The error is what the process ends with.
fn run_load(load: &Load, node: &Node) -> Result<Loaded, String> {
    let began = Instant::now();
    match load.run() {
        Ok(()) if load.is_of_aof() => {
            let seconds = began.elapsed().as_secs_f64();
            tracing::info!("DB loaded from append only file: {seconds:.3} seconds");
            Ok(Loaded::Whole)
        }
        Ok(()) => {
            let loading = &node.loading;
            let (loaded, expired) = (loading.keys_loaded(), loading.keys_expired());
            match loading.keys_empty() {
                0 => tracing::info!("Done loading RDB, keys loaded: {loaded}, keys expired: {expired}."),
                empty => tracing::info!(
                    "Done loading RDB, keys loaded: {loaded}, keys expired: {expired}, empty keys skipped: {empty}."
                ),
            }
            tracing::info!("DB loaded from disk: {:.3} seconds", began.elapsed().as_secs_f64());
            Ok(Loaded::Whole)
        }
        Err(LoadError::Stopped) => Ok(Loaded::Stopped),
        Err(LoadError::Aof(error)) => Err(start::fatal(&error)),
        Err(error) => {
            tracing::warn!("{error}");
            match load.is_of_aof() {
                true => tracing::warn!(
                    "shardis --check-aof says how much of the append only file can be read. Put a backup of all its files in its place."
                ),
                false => tracing::warn!(
                    "redis-check-rdb shows how much of the file can be read. Put a backup in its place, or another `dbfilename` into the configuration."
                ),
            }
            Err("Fatal error loading the DB, check server logs. Exiting.".to_owned())
        }
    }
}

/// What is shown at the start: who this is, and where. In a terminal with a logo, in one line elsewhere, as in Redis.
fn banner(settings: &Settings, placement: &[Option<usize>], has_logo: bool) -> String {
    let cpus: Vec<String> = placement
        .iter()
        .map(|cpu| cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string()))
        .collect();
    let (shards, cpus) = (placement.len(), cpus.join(","));
    let (version, pid, port) = (env!("CARGO_PKG_VERSION"), std::process::id(), settings.port);
    if !has_logo {
        return format!("Running mode=standalone, port={port}, shards={shards} on CPUs {cpus}.");
    }
    let lines = [
        format!(
            "shardis {version} ({} bit), compatible with Redis {REDIS_VERSION}",
            usize::BITS
        ),
        "Running in standalone mode".to_owned(),
        format!("Port: {port}"),
        format!("PID: {pid}"),
        format!("Shards: {shards} on CPUs {cpus}"),
    ];
    let mut text = "\n".to_owned();
    for line in lines {
        text.push_str(&format!("   [ ][ ][ ][ ]   {line}\n"));
    }
    text.push('\n');
    text
}

/// What a shard's thread is started with.
struct ShardParts {
    index: usize,
    node: Arc<Node>,
    registry: &'static Registry,
    realm: Realm,
    seed: HashSeed,
    port: Port<crate::engine::Envelope>,
    shared: Arc<Shared>,
    listening: Listening,
    load: Option<Arc<Load>>,
    /// The first shard takes those of the link to a master.
    errands: Option<Arc<Errands>>,
}

async fn run_shard(parts: ShardParts) {
    let ShardParts {
        index,
        node,
        registry,
        realm,
        seed,
        port,
        shared,
        listening,
        load,
        errands,
    } = parts;
    super::fault::give_stack();
    let plane = match UringPlane::new(UringOptions::default()) {
        Ok(plane) => plane,
        Err(error) => panic!("the network ring of shard {index} could not be set up: {error}"),
    };
    // All that this thread has taken so far: the executor's rings and queues, and the plane's.
    let machinery_bytes = MemoryAccount::own_balance_bytes().max(0).unsigned_abs();
    let local = Local::new(LocalOptions {
        id: ShardId(index as u16),
        node,
        registry,
        realm,
        seed,
        port,
        executor: Rc::new(ShardExecutor),
        clock: Clock::Host,
        random: Random::from_entropy(),
    });
    local.borrow_mut().leave_out(machinery_bytes);
    if load.is_none() {
        local.borrow_mut().begin_logging();
    }
    if let Some(load) = load {
        runtime::spawn_local(load.attend(LocalHandle(local.clone()))).detach();
    }
    if let Some(errands) = errands {
        let handle = LocalHandle(local.clone());
        runtime::spawn_local(async move { errands.attend(handle).await }).detach();
    }
    let reactor = Reactor::new(index, plane, local, shared, listening);
    if let Err(error) = runtime::drive(reactor).await {
        panic!("the loop of shard {index} has failed: {error}");
    }
}

/// The shard's executor, as the command layer sees it.
struct ShardExecutor;

impl Executor for ShardExecutor {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()>>>) {
        // glommio runs a new task at once, and whoever spawns from here has the shard borrowed: so it yields first.
        runtime::spawn_local(async move {
            runtime::yield_now().await;
            future.await;
        })
        .detach();
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(runtime::sleep(duration))
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(runtime::run_blocking(work))
    }
}

/// The process, as commands see it.
struct Process {
    shared: Arc<Shared>,
    listeners: Mutex<Listeners>,
    log: Log,
    shards: usize,
    title: Option<Title>,
    oom_score: OomScore,
    /// The directory of all files.
    owned: Mutex<Owned>,
    leavings: Arc<OnceLock<Leavings>>,
}

impl Process {
    fn lock_listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_title(&self, settings: &Settings) {
        if let Some(title) = &self.title {
            title.show(settings);
        }
    }
}

impl Surroundings for Process {
    fn apply(&self, effect: Effect, settings: &Settings) -> Result<(), String> {
        match effect {
            Effect::LogLevel => self.log.set_level(settings.loglevel),
            Effect::Descriptors => {
                let wanted = u64::from(settings.maxclients);
                let possible = process::raise_descriptor_limit(wanted, self.shards);
                if possible < wanted {
                    return Err(format!(
                        "The operating system is not able to handle the specified number of clients, try with {possible}"
                    ));
                }
            }
            Effect::Port | Effect::Addresses => {
                let mut listeners = self.lock_listeners();
                // Both may stand in one CONFIG SET: the second one finds nothing to do.
                listeners.change(settings).map_err(|_| match effect {
                    Effect::Port => "Unable to listen on this port. Check server logs.".to_owned(),
                    _ => "Failed to bind to specified addresses.".to_owned(),
                })?;
                for index in 0..self.shards {
                    self.shared.listen_to(index, listeners.of_shard(index));
                }
                self.show_title(settings);
            }
            Effect::KeepAlive => self.lock_listeners().set_keepalive(settings.tcp_keepalive),
            Effect::Title => self.show_title(settings),
            Effect::OomScore => self.oom_score.apply(settings)?,
            Effect::AllocatorThread => process::set_allocator_thread(settings),
            Effect::CrashReport => crash::follow(settings),
            Effect::Directory => {
                let dir = settings.dir.as_path();
                let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
                if owned.is(dir) {
                    return process::go_to(dir);
                }
                let taken = Owned::take(dir).map_err(|denied| match denied {
                    Denied::Io { error, .. } => format!("{error}"),
                    in_use => in_use.to_string(),
                })?;
                process::go_to(dir)?;
                *owned = taken;
            }
        }
        Ok(())
    }

    fn shut_down(&self) {
        self.shared.stop();
    }

    fn end_now(&self) -> ! {
        if let Some(leavings) = self.leavings.get() {
            leavings.remove();
        }
        say_goodbye();
        std::process::exit(0)
    }
}
