//! Parameters of listening, connections, their buffers, and TLS.

/// Adds this file's rows and hands all of them to `$next`.
macro_rules! network_parameters {
    ($next:ident $($after:ident)*; $($rows:tt)*) => { $next! { $($after)*; $($rows)*

chapter "NETWORK";

    /// The addresses to listen on. A name or address with `-` before it may be missing on this host. `*` is all of IPv4,
    /// `::*` all of IPv6.
    "bind" => bind: Vec<Text> = Kind::Addresses, "* -::*", Flags::NONE, Network, effect Addresses;

    /// The address that connections to masters and cluster nodes are made from.
    "bind-source-addr" => bind_source_addr: Text = Kind::Text(check::any), "", Flags::LATER, Replication;

    /// While the default user has no password, refuse clients that do not come from this host.
    "protected-mode" => protected_mode: bool = Kind::Bool, "yes", Flags::NONE, Network;

    /// The TCP port. 0 does not listen on TCP.
    "port" => port: u16 = integer(0, 65535), "6379", Flags::NONE, Network, effect Port;

    /// How many connections may wait to be accepted. The kernel keeps it below net.core.somaxconn.
    "tcp-backlog" => tcp_backlog: u32 = integer(0, I32), "511", Flags::IMMUTABLE, Network;

    /// The Unix socket to listen on too.
    "unixsocket" => unixsocket: Text = Kind::Text(check::any), "", Flags::IMMUTABLE, Network;

    /// The permissions of the Unix socket, in octal. 0 leaves what the umask gives.
    "unixsocketperm" => unixsocketperm: u32 = Kind::Octal { max: 0o777 }, "0", Flags::IMMUTABLE, Network;

    /// Close a client that has been idle for this many seconds. 0 never does.
    "timeout" => timeout: u32 = integer(0, I32), "0", Flags::NONE, Network;

    /// Send TCP keep-alives after this many idle seconds, to find peers that are gone. 0 sends none.
    "tcp-keepalive" => tcp_keepalive: u32 = integer(0, I32), "300", Flags::NONE, Network, effect KeepAlive;

    /// The mark (SO_MARK) of listening sockets, for routing and firewalls. 0 sets none.
    "socket-mark-id" => socket_mark_id: u32 = integer(0, U32), "0", Flags::IMMUTABLE.and(Flags::LATER), Network;

chapter "CLIENTS";

    /// How many clients may be connected. Lowered at the start if the process may not open that many files.
    "maxclients" => maxclients: u32 = integer(1, U32), "10000", Flags::NONE, Network, effect Descriptors;

    /// When a client that does not read its replies is closed: beyond the hard limit at once, beyond the soft limit when
    /// that lasts for so many seconds. 0 is no limit. A line for each class.
    "client-output-buffer-limit" => client_output_buffer_limit: OutputLimits = Kind::OutputLimits,
        "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60", Flags::NONE, Network;

    /// The greatest size of a client's unfinished request.
    "client-query-buffer-limit" => client_query_buffer_limit: u64 = memory(1 << 20, BYTES), "1gb", Flags::NONE, Network;

    /// The greatest size of one argument.
    "proto-max-bulk-len" => proto_max_bulk_len: u64 = memory(1 << 20, BYTES), "512mb", Flags::NONE, Network;

    /// The greatest size of all clients' buffers together; beyond it, the largest clients are closed. 0 is no limit.
    "maxmemory-clients" => maxmemory_clients: MemoryOrPercent = Kind::MemoryOrPercent, "0", Flags::NONE, Network;

    /// How many keys may be remembered for clients that cache (CLIENT TRACKING), with ten times as many clients of them in
    /// all. Beyond it keys are taken for changed. 0 is no limit.
    "tracking-table-max-keys" => tracking_table_max_keys: u64 = integer(0, I64), "1000000", Flags::NONE, Tracking;

chapter "TLS";

    /// The port for TLS. 0 does not listen for TLS.
    "tls-port" => tls_port: u16 = integer(0, 65535), "0", Flags::NONE, Tls;

    /// The server's certificate, in PEM.
    "tls-cert-file" => tls_cert_file: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The server's private key, in PEM.
    "tls-key-file" => tls_key_file: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The pass phrase of the private key.
    "tls-key-file-pass" => tls_key_file_pass: Text = Kind::Text(check::any), "", Flags::SENSITIVE, Tls;

    /// The certificate for connections that this server opens; empty uses `tls-cert-file`.
    "tls-client-cert-file" => tls_client_cert_file: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The private key for connections that this server opens.
    "tls-client-key-file" => tls_client_key_file: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The pass phrase of that key.
    "tls-client-key-file-pass" => tls_client_key_file_pass: Text = Kind::Text(check::any), "", Flags::SENSITIVE, Tls;

    /// Diffie-Hellman parameters for old versions of TLS.
    "tls-dh-params-file" => tls_dh_params_file: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The certificates that peers are checked against, as one file.
    "tls-ca-cert-file" => tls_ca_cert_file: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The certificates that peers are checked against, as a directory.
    "tls-ca-cert-dir" => tls_ca_cert_dir: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// Whether clients must show a certificate.
    "tls-auth-clients" => tls_auth_clients: TlsAuthClients = Kind::Choice(TlsAuthClients::NAMES), "yes", Flags::NONE, Tls;

    /// Whether the connection to the master uses TLS.
    "tls-replication" => tls_replication: bool = Kind::Bool, "no", Flags::NONE, Tls;

    /// Whether the cluster bus uses TLS.
    "tls-cluster" => tls_cluster: bool = Kind::Bool, "no", Flags::NONE, Tls;

    /// The versions that are spoken, as `TLSv1.2 TLSv1.3`. Empty is the library's choice.
    "tls-protocols" => tls_protocols: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The ciphers up to TLS 1.2.
    "tls-ciphers" => tls_ciphers: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// The cipher suites of TLS 1.3.
    "tls-ciphersuites" => tls_ciphersuites: Text = Kind::Text(check::any), "", Flags::NONE, Tls;

    /// Whether the server's order of ciphers decides.
    "tls-prefer-server-ciphers" => tls_prefer_server_ciphers: bool = Kind::Bool, "no", Flags::NONE, Tls;

    /// Whether TLS sessions can be resumed.
    "tls-session-caching" => tls_session_caching: bool = Kind::Bool, "yes", Flags::NONE, Tls;

    /// How many TLS sessions are remembered. 0 is no limit.
    "tls-session-cache-size" => tls_session_cache_size: u32 = integer(0, I32), "20480", Flags::NONE, Tls;

    /// For how many seconds a TLS session is remembered.
    "tls-session-cache-timeout" => tls_session_cache_timeout: u32 = integer(0, I32), "300", Flags::NONE, Tls;

    } };
}

pub(in crate::config) use network_parameters;
