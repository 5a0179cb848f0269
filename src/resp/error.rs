//! Every error that a command can answer with.
//!
//! Clients, proxies and monitoring match on these texts, so they are Redis 7.2's to the letter and stand in one place. A text begins with
//! its code (`ERR`, `WRONGTYPE`, ...), which INFO counts as `errorstat_<code>`; the `-` in front and the line end are the reply writer's.
//!
//! Most errors are constants and cost nothing. Those that repeat something a client sent are made by a function of the same family,
//! and pass through [`ReplyError::owned`], which turns line ends into spaces: an error is one line of the protocol, whatever a
//! client may have put into a command's name. Texts are bytes, not characters, since what clients send need not be UTF-8.

use std::borrow::Cow;
use std::fmt;

use super::args::Args;
use crate::base::limits::ERROR_ECHO_BYTES_MAX;

/// An error reply. See the module's text.
#[derive(Clone, PartialEq, Eq)]
pub enum ReplyError {
    /// A text known beforehand.
    Static(&'static str),
    /// A text made for the occasion, one line. Made by [`ReplyError::owned`] only.
    Owned(Box<[u8]>),
}

impl ReplyError {
    /// An error of this text; line ends at its end are dropped, others become spaces.
    pub fn owned(text: impl Into<Vec<u8>>) -> ReplyError {
        let mut text = text.into();
        while text.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            text.pop();
        }
        for byte in &mut text {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        ReplyError::Owned(text.into_boxed_slice())
    }

    /// The code and what follows it.
    pub fn text(&self) -> &[u8] {
        match self {
            ReplyError::Static(text) => text.as_bytes(),
            ReplyError::Owned(text) => text,
        }
    }

    /// The first word: what INFO's `errorstat_` counts under.
    pub fn code(&self) -> Cow<'_, str> {
        let text = self.text();
        let end = memchr::memchr(b' ', text).unwrap_or(text.len());
        String::from_utf8_lossy(&text[..end])
    }

    /// What follows the code.
    pub fn message(&self) -> &[u8] {
        let text = self.text();
        memchr::memchr(b' ', text).map_or(text, |end| &text[end + 1..])
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(self.text()).fmt(f)
    }
}

impl fmt::Debug for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}", self.text().escape_ascii())
    }
}

impl std::error::Error for ReplyError {}

/// Declares constants that are error texts.
macro_rules! errors {
    ($($name:ident = $text:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: ReplyError = ReplyError::Static($text);
        )*
        /// Every constant of this file, for the tests that read the registry.
        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($name), $text)),*];
    };
}

errors! {
    // Any command.
    WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    SYNTAX = "ERR syntax error";
    NO_SUCH_KEY = "ERR no such key";
    SAME_OBJECT = "ERR source and destination objects are the same";
    NOT_AN_INTEGER = "ERR value is not an integer or out of range";
    NOT_A_FLOAT = "ERR value is not a valid float";
    NOT_POSITIVE = "ERR value is out of range, must be positive";
    OUT_OF_RANGE = "ERR value is out of range";
    INDEX_OUT_OF_RANGE = "ERR index out of range";
    INVALID_CURSOR = "ERR invalid cursor";
    NUMKEYS_NOT_POSITIVE = "ERR numkeys should be greater than 0";
    NUMKEYS_BEYOND_ARGS = "ERR Number of keys can't be greater than number of args";
    NUMKEYS_NEGATIVE = "ERR Number of keys can't be negative";
    COUNT_NOT_POSITIVE = "ERR count should be greater than 0";
    LIMIT_NEGATIVE = "ERR LIMIT can't be negative";
    STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

    // DEBUG, COPY between dbs and SHUTDOWN ABORT.
    NO_LISTPACK = "ERR Not a listpack encoded object.";
    NO_MEMORY_VALUE = "ERR argument must be a memory value";
    MEMORY_VALUE_OUT_OF_RANGE = "ERR argument must be a memory value bigger than 1 and smaller than 4gb";
    NO_SUCH_DATABASE = "ERR Out of range database";
    NO_HASH_TABLE = "ERR The value stored at the specified key is not represented using an hash table";
    RESP3_ONLY = "ERR RESP2 is not supported by this command";
    NO_SUCH_PROTOCOL_TYPE = "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false";

    // State of the server.
    LOADING = "LOADING Redis is loading the dataset in memory";
    OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'.";
    READ_ONLY_REPLICA = "READONLY You can't write against a read only replica.";
    MASTER_DOWN = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    NO_REPLICAS = "NOREPLICAS Not enough good replicas to write.";
    BUSY_SCRIPT = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
    BUSY_FUNCTION = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
    SNAPSHOT_FAILED = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";
    CLIENTS_TOO_MANY = "ERR max number of clients reached";
    CLIENT_TOO_MANY_WITH_CLUSTER = "ERR max number of clients + cluster connections reached";

    // Authentication and permissions.
    NO_AUTH = "NOAUTH Authentication required.";
    HELLO_NO_AUTH = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
    WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled.";
    AUTH_WITHOUT_PASSWORD = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
    NO_PROTO = "NOPROTO unsupported protocol version";
    PROTO_NOT_AN_INTEGER = "ERR Protocol version is not an integer or out of range";
    NO_KEY_PERMISSION = "NOPERM No permissions to access a key";
    NO_CHANNEL_PERMISSION = "NOPERM No permissions to access a channel";
    PROTECTED_MODE = "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.";

    // Transactions.
    EXEC_ABORTED = "EXECABORT Transaction discarded because of previous errors.";
    EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI";
    DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI";
    MULTI_NESTED = "ERR MULTI calls can not be nested";
    WATCH_IN_MULTI = "ERR WATCH inside MULTI is not allowed";
    NOT_ALLOWED_IN_MULTI = "ERR Command not allowed inside a transaction";
    RESET_IN_SCRIPT = "ERR can't reset script clients";

    // Subscriptions.
    REPLICA_KEYSPACE = "ERR Replica can't interact with the keyspace";
    NO_MASTER_LINK = "NOMASTERLINK Can't SYNC while not connected with my master";
    MONITOR_DENIED = "ERR MONITOR isn't allowed for DENY BLOCKING client";
    SSUBSCRIBE_DENIED = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client";

    // Databases.
    DB_OUT_OF_RANGE = "ERR DB index is out of range";
    DB_FIRST_INVALID = "ERR invalid first DB index";
    DB_SECOND_INVALID = "ERR invalid second DB index";
    SELECT_IN_CLUSTER = "ERR SELECT is not allowed in cluster mode";
    SWAPDB_IN_CLUSTER = "ERR SWAPDB is not allowed in cluster mode";
    MOVE_IN_CLUSTER = "ERR MOVE is not allowed in cluster mode";
    REPLICAOF_IN_CLUSTER = "ERR REPLICAOF not allowed in cluster mode.";
    COPY_DB_IN_CLUSTER = "ERR Copying to another database is not allowed in cluster mode";

    // Strings and bits.
    INCREMENT_OVERFLOW = "ERR increment or decrement would overflow";
    DECREMENT_OVERFLOW = "ERR decrement would overflow";
    INCREMENT_NOT_FINITE = "ERR increment would produce NaN or Infinity";
    OFFSET_OUT_OF_RANGE = "ERR offset is out of range";
    BIT_OFFSET_INVALID = "ERR bit offset is not an integer or out of range";
    BIT_VALUE_INVALID = "ERR bit is not an integer or out of range";
    BITPOS_BIT_INVALID = "ERR The bit argument must be 1 or 0.";
    BITOP_NOT_ARITY = "ERR BITOP NOT must be called with a single source key.";
    BITFIELD_TYPE_INVALID = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    BITFIELD_OVERFLOW_INVALID = "ERR Invalid OVERFLOW type specified";
    BITFIELD_RO_NOT_GET = "ERR BITFIELD_RO only supports the GET subcommand";
    LCS_LEN_AND_IDX = "ERR If you want both the length and indexes, please just use IDX.";
    LCS_NOT_STRINGS = "ERR The specified keys must contain string values";
    LCS_TOO_LONG = "ERR String too long for LCS";
    LCS_MEMORY = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";

    // Keys.
    EXPIRE_NX_WITH_OTHERS = "ERR NX and XX, GT or LT options at the same time are not compatible";
    EXPIRE_GT_WITH_LT = "ERR GT and LT options at the same time are not compatible";
    RESTORE_BUSY_KEY = "BUSYKEY Target key name already exists.";
    RESTORE_CHECKSUM = "ERR DUMP payload version or checksum are wrong";
    RESTORE_BAD_FORMAT = "ERR Bad data format";
    RESTORE_TTL_INVALID = "ERR Invalid TTL value, must be >= 0";
    RESTORE_IDLETIME_INVALID = "ERR Invalid IDLETIME value, must be >= 0";
    RESTORE_FREQ_INVALID = "ERR Invalid FREQ value, must be >= 0 and <= 255";
    OBJECT_FREQ_NOT_LFU = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    OBJECT_IDLETIME_LFU = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    SORT_NOT_A_DOUBLE = "ERR One or more scores can't be converted into double";
    SORT_BY_IN_CLUSTER = "ERR BY option of SORT denied in cluster mode.";
    SORT_GET_IN_CLUSTER = "ERR GET option of SORT denied in cluster mode.";

    // Lists.
    LPOS_RANK_ZERO = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list";
    LPOS_COUNT_NEGATIVE = "ERR COUNT can't be negative";
    LPOS_MAXLEN_NEGATIVE = "ERR MAXLEN can't be negative";
    TIMEOUT_NOT_A_FLOAT = "ERR timeout is not a float or out of range";
    TIMEOUT_NOT_AN_INTEGER = "ERR timeout is not an integer or out of range";
    TIMEOUT_NEGATIVE = "ERR timeout is negative";
    TIMEOUT_OUT_OF_RANGE = "ERR timeout is out of range";
    WAIT_ON_REPLICA = "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.";
    WAITAOF_ON_REPLICA = "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.";
    WAITAOF_WITHOUT_AOF = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    UNBLOCKED = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
    UNBLOCKED_ROLE_CHANGED = "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

    // Hashes.
    HASH_NOT_AN_INTEGER = "ERR hash value is not an integer";
    HASH_NOT_A_FLOAT = "ERR hash value is not a float";
    HASH_INCREMENT_NOT_FINITE = "ERR value is NaN or Infinity";
    HASH_FIELDS_MISSING = "ERR Mandatory argument FIELDS is missing or not at the right position";
    HASH_FIELD_COUNT_NOT_POSITIVE = "ERR Number of fields must be a positive integer";
    HASH_NUMFIELDS_NOT_POSITIVE = "ERR Parameter `numFields` should be greater than 0";
    HASH_NUMFIELDS_MISMATCH = "ERR The `numfields` parameter must match the number of arguments";
    HASH_FIELD_COUNT_INVALID = "ERR invalid number of fields";
    HASH_FIELDS_ABSENT = "ERR missing FIELDS argument";
    HASH_EXPIRE_NEGATIVE = "ERR invalid expire time, must be >= 0";
    HASH_EXPIRE_MISSING = "ERR missing expire time";
    HSETEX_TIMES = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
    HSETEX_FNX_WITH_FXX = "ERR Only one of FXX or FNX arguments can be specified";

    // Sorted sets.
    SCORE_NAN = "ERR resulting score is not a number (NaN)";
    SCORE_RANGE_INVALID = "ERR min or max is not a float";
    LEX_RANGE_INVALID = "ERR min or max not valid string range item";
    ZADD_NX_WITH_XX = "ERR XX and NX options at the same time are not compatible";
    ZADD_GT_LT_NX = "ERR GT, LT, and/or NX options at the same time are not compatible";
    ZADD_INCR_PAIRS = "ERR INCR option supports a single increment-element pair";
    WEIGHT_NOT_A_FLOAT = "ERR weight value is not a float";
    ZRANGE_LIMIT_WITHOUT_BY = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
    ZRANGE_WITHSCORES_BYLEX = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";

    // HyperLogLog.
    HLL_WRONG_TYPE = "WRONGTYPE Key is not a valid HyperLogLog string value.";
    HLL_NO_KEY = "ERR The specified key does not exist";
    HLL_NOT_SPARSE = "ERR HLL encoding is not sparse";
    HLL_CORRUPTED = "INVALIDOBJ Corrupted HLL object detected";

    // Geo.
    GEO_UNIT_INVALID = "ERR unsupported unit provided. please use M, KM, FT, MI";
    GEO_RADIUS_INVALID = "ERR need numeric radius";
    GEO_WIDTH_INVALID = "ERR need numeric width";
    GEO_HEIGHT_INVALID = "ERR need numeric height";
    GEO_RADIUS_NEGATIVE = "ERR radius cannot be negative";
    GEO_BOX_NEGATIVE = "ERR height or width cannot be negative";
    GEO_MEMBER_MISSING = "ERR could not decode requested zset member";
    GEO_COUNT_NOT_POSITIVE = "ERR COUNT must be > 0";
    GEORADIUS_STORE_WITH = "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options";
    GEOSEARCHSTORE_WITH = "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options";
    GEO_ANY_WITHOUT_COUNT = "ERR the ANY argument requires COUNT argument";

    // Streams.
    STREAM_ID_INVALID = "ERR Invalid stream ID specified as stream command argument";
    STREAM_ID_TOO_SMALL = "ERR The ID specified in XADD is equal or smaller than the target stream top item";
    STREAM_ID_ZERO = "ERR The ID specified in XADD must be greater than 0-0";
    STREAM_ID_EXHAUSTED = "ERR The stream has exhausted the last possible ID, unable to add more items";
    STREAM_ELEMENTS_TOO_LARGE = "ERR Elements are too large to be stored";
    STREAM_RANGE_START_INVALID = "ERR invalid start ID for the interval";
    STREAM_RANGE_END_INVALID = "ERR invalid end ID for the interval";
    STREAM_GROUP_EXISTS = "BUSYGROUP Consumer Group name already exists";
    STREAM_GROUP_NO_KEY = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.";
    STREAM_ENTRIES_READ_INVALID = "ERR value for ENTRIESREAD must be positive or -1";
    STREAM_MAXLEN_NEGATIVE = "ERR The MAXLEN argument must be >= 0.";
    STREAM_LIMIT_NEGATIVE = "ERR The LIMIT argument must be >= 0.";
    STREAM_LIMIT_WITHOUT_TILDE = "ERR syntax error, LIMIT cannot be used without the special ~ option";
    STREAM_LIMIT_WITHOUT_TRIM = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy";
    STREAM_TRIM_WITHOUT_BOUND = "ERR syntax error, XTRIM must be called with a trimming strategy";
    STREAM_MAXLEN_AND_MINID = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible";
    STREAM_SETID_TOO_SMALL = "ERR The ID specified in XSETID is smaller than the target stream top item";
    STREAM_SETID_ENTRIES_TOO_FEW = "ERR The entries_added specified in XSETID is smaller than the target stream length";
    STREAM_SETID_BEHIND_DELETED = "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
    STREAM_SETID_BELOW_DELETED = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
    STREAM_ENTRIES_ADDED_NEGATIVE = "ERR entries_added must be positive";
    STREAM_GT_IN_XREAD = "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.";
    STREAM_DOLLAR_IN_XREADGROUP = "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.";
    STREAM_GROUP_IN_XREAD = "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.";
    STREAM_NOACK_IN_XREAD = "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.";
    STREAM_XREADGROUP_NO_GROUP = "ERR Missing GROUP option for XREADGROUP";
    STREAM_DELETED = "UNBLOCKED the stream key no longer exists";

    // Scripts and functions.
    SCRIPT_STALE = "ERR Can not execute the command on a stale replica";
    NO_SCRIPT = "NOSCRIPT No matching script. Please use EVAL.";
    NOT_BUSY = "NOTBUSY No scripts in execution right now.";
    UNKILLABLE = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.";
    SCRIPT_UNKNOWN_COMMAND = "ERR Unknown Redis command called from script";
    SCRIPT_WRONG_ARITY = "ERR Wrong number of args calling Redis command from script";
    SCRIPT_NOT_ALLOWED = "ERR This Redis command is not allowed from script";
    SCRIPT_READ_ONLY = "ERR Write commands are not allowed from read-only scripts.";
    SCRIPT_NO_CLUSTER = "ERR Can not run script on cluster, 'no-cluster' flag is set.";
    SCRIPT_WRITES_IN_RO = "ERR Can not execute a script with write flag using *_ro command.";
    SCRIPT_OUT_OF_MEMORY = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";
    SCRIPT_FLUSH_MODE = "ERR SCRIPT FLUSH only support SYNC|ASYNC option";
    SCRIPT_KILLED = "ERR Script killed by user with SCRIPT KILL...";
    LUA_STACK_LIMIT = "ERR reached lua stack limit";
    CALL_WITHOUT_SCRIPT = "ERR redis.call/pcall can only be called inside a script invocation";
    SCRIPT_NO_DEBUGGER = "ERR There is no debugger for scripts in this server";
    SCRIPT_DEBUG_MODE = "ERR Use SCRIPT DEBUG YES/SYNC/NO";
    FUNCTION_FLUSH_MODE = "ERR FUNCTION FLUSH only supports SYNC|ASYNC option";
    FUNCTION_RESTORE_POLICY = "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.";
    FUNCTION_RESTORE_TYPE = "ERR given type is not a function";
    FUNCTION_RESTORE_DAMAGED = "ERR failed loading given functions payload";
    FUNCTION_KEYS_INVALID = "ERR Bad number of keys provided";
    FUNCTION_LOAD_TIMEOUT = "ERR FUNCTION LOAD timeout";
    FUNCTION_NAME_MISSING = "ERR library name argument was not given";
    FUNCTION_NO_METADATA = "ERR Missing library metadata";
    FUNCTION_NOT_FOUND = "ERR Function not found";
    LIBRARY_NOT_FOUND = "ERR Library not found";
    SHEBANG_INVALID = "ERR Invalid script shebang";
    SHEBANG_ENGINE_INVALID = "ERR Invalid engine in script shebang";
    LIBRARY_METADATA_INVALID = "ERR Invalid library metadata";
    LIBRARY_NAME_MISSING = "ERR Library name was not given";
    LIBRARY_NAME_TWICE = "ERR Invalid metadata value, name argument was given multiple times";
    LIBRARY_NAME_INVALID = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";
    LIBRARY_EMPTY = "ERR No functions registered";

    // Cluster.
    CLUSTER_DISABLED = "ERR This instance has cluster support disabled";
    CLUSTER_DOWN = "CLUSTERDOWN The cluster is down";
    CLUSTER_DOWN_UNBOUND = "CLUSTERDOWN Hash slot not served";
    CROSS_SLOT = "CROSSSLOT Keys in request don't hash to the same slot";
    TRY_AGAIN = "TRYAGAIN Multiple keys request during rehashing of slot";
    SLOT_OUT_OF_RANGE = "ERR Invalid slot";
    SLOT_OR_COUNT_INVALID = "ERR Invalid slot or number of keys";
    NOT_A_REPLICA = "ERR You should send CLUSTER FAILOVER to a replica";
    SLOT_INVALID = "ERR Invalid or out of range slot";

    // Clients.
    NO_SUCH_CLIENT = "ERR No such client";
    CLIENT_NAME_INVALID = "ERR Client names cannot contain spaces, newlines or special characters.";
    CLIENT_ID_INVALID = "ERR Invalid client ID";
    CLIENT_ID_NOT_POSITIVE = "ERR client-id should be greater than 0";
    UNBLOCK_REASON_INVALID = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
    KILL_AGE_NOT_AN_INTEGER = "ERR maxage is not an integer or out of range";
    KILL_AGE_NOT_POSITIVE = "ERR maxage should be greater than 0";
    PAUSE_MODE_INVALID = "ERR CLIENT PAUSE mode must be WRITE or ALL";
    TRACKING_REDIRECT_MISSING = "ERR The client ID you want redirect to does not exist";
    TRACKING_REDIRECT_TWICE = "ERR A client can only redirect to a single other client";
    TRACKING_PREFIX_WITHOUT_BCAST = "ERR PREFIX option requires BCAST mode to be enabled";
    TRACKING_OPT_WITH_BCAST = "ERR OPTIN and OPTOUT are not compatible with BCAST";
    TRACKING_OPTIN_WITH_OPTOUT = "ERR You can't specify both OPTIN mode and OPTOUT mode";
    TRACKING_BCAST_SWITCHED = "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.";
    TRACKING_OPT_SWITCHED = "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.";
    CACHING_YES_WITHOUT_OPTIN = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
    CACHING_NO_WITHOUT_OPTOUT = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";
    CACHING_WITHOUT_TRACKING = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled";

    // Access control lists.
    ACL_NO_FILE = "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.";
    ACL_DEFAULT_NOT_REMOVABLE = "ERR The 'default' user cannot be removed";
    ACL_USERNAME_INVALID = "ERR Usernames can't contain spaces or null characters";
    ACL_GENPASS_BITS_INVALID = "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096";

    // The server's own commands.
    SLOWLOG_COUNT_INVALID = "ERR count should be greater than or equal to -1";
    NO_CONFIG_FILE = "ERR The server is running without a config file";
    DEBUG_NOT_ALLOWED = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.";
    MODULE_NOT_ALLOWED = "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.";
    MODULE_NOT_LOADED = "ERR Error loading the extension. Please check the server logs.";
    NO_SUCH_MODULE = "ERR Error unloading module: no such module with that name";
    MASTER_PORT_INVALID = "ERR Invalid master port";
    NO_FAILOVER = "ERR No failover in progress.";
    FAILOVER_TIMEOUT_INVALID = "ERR FAILOVER timeout must be greater than 0";
    FAILOVER_NO_REPLICAS = "ERR FAILOVER requires connected replicas.";
    MIGRATE_KEYS_AND_KEY = "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string";
    MIGRATE_WRITE_FAILED = "IOERR error or timeout writing to target instance";
    MIGRATE_READ_FAILED = "IOERR error or timeout reading from target instance";
    SAVE_FAILED = "ERR";
    RELOAD_FAILED = "ERR Error trying to load the RDB dump, check server logs.";
    LOAD_AOF_FAILED = "ERR Error trying to load the AOF files, check server logs.";
    RELOAD_OPTION_UNKNOWN = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
    NO_SAVE_IN_PROGRESS = "ERR Background saving is currently not in progress or scheduled";
    SAVE_IN_PROGRESS = "ERR Background save already in progress";
    SAVE_BEHIND_REWRITE = "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.";
    REWRITE_IN_PROGRESS = "ERR Background append only file rewriting already in progress";
    SHUTDOWN_FAILED = "ERR Errors trying to SHUTDOWN. Check logs.";
    NO_SHUTDOWN = "ERR No shutdown in progress.";
    INVALID_COMMAND = "ERR Invalid command specified";
    NO_KEY_ARGUMENTS = "ERR The command has no key arguments";
    INVALID_ARG_COUNT = "ERR Invalid number of arguments specified for command";
    INVALID_KEY_ARGUMENTS = "ERR Invalid arguments specified for command";
}

/// Declares functions that make an error text: each `{}` becomes the next argument.
macro_rules! templates {
    ($($name:ident($($argument:ident: $kind:ty),*) = $template:literal $(, $note:literal)?;)*) => {
        $(
            #[doc = concat!("`", $template, "`", $(" ", $note)?)]
            pub fn $name($($argument: $kind),*) -> ReplyError {
                fill($template, &[$(&*$argument.to_piece()),*])
            }
        )*
    };
}

templates! {
    wrong_arity(full_name: &str) = "ERR wrong number of arguments for '{}' command", "The full name of a subcommand is written `client|list`.";
    invalid_expire(full_name: &str) = "ERR invalid expire time in '{}' command";
    input_key_needed(full_name: &str) = "ERR at least 1 input key is needed for '{}' command", "ZUNION and its kin.";
    out_of_bounds(low: i64, high: i64) = "ERR value is out of range, value must between {} and {}", "In Redis's grammar.";
    unsupported_option(option: &[u8]) = "ERR Unsupported option {}", "EXPIRE and its kin.";
    not_allowed_while_subscribed(full_name: &str) = "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", "To a RESP2 client that has subscribed and asks for something else.";
    aof_write_failed(reason: &str) = "MISCONF Errors writing to the AOF file: {}";
    no_command_permission(user: &[u8], full_name: &str) = "NOPERM User {} has no permissions to run the '{}' command";
    moved(slot: u16, endpoint: &str, port: u16) = "MOVED {} {}:{}";
    ask(slot: u16, endpoint: &str, port: u16) = "ASK {} {}:{}";
    slot_is(slot: u16, state: &str) = "ERR Slot {} is {}", "`already busy`, `already unassigned`.";
    unknown_node(name: &[u8]) = "ERR Unknown node {}";
    no_key_or_group(key: &[u8], group: &[u8]) = "NOGROUP No such key '{}' or consumer group '{}'", "XPENDING, XCLAIM, XAUTOCLAIM.";
    no_group_to_read(key: &[u8], group: &[u8]) = "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option", "XREADGROUP.";
    no_group_of_key(group: &[u8], key: &[u8]) = "NOGROUP No such consumer group '{}' for key name '{}'", "XGROUP, XINFO.";
    unbalanced_streams(command: &str, sign: &str) = "ERR Unbalanced '{}' list of streams: for each stream key an ID or '{}' must be specified.", "XREAD, and XREADGROUP, whose sign is `>`.";
    unrecognized_xclaim_option(option: &[u8]) = "ERR Unrecognized XCLAIM option '{}'";
    invalid_argument_for(what: &str, command: &str) = "ERR Invalid {} argument for {}", "`min-idle-time`, `XCLAIM`.";
    hello_option(option: &[u8]) = "ERR Syntax error in HELLO option '{}'";
    unrecognized_replconf_option(option: &[u8]) = "ERR Unrecognized REPLCONF option: {}";
    replica_address_too_long(length: i64) = "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes";
    unrecognized_option(option: &[u8]) = "ERR Unrecognized option '{}'", "CLIENT SETINFO.";
    client_property_invalid(name: &[u8]) = "ERR {} cannot contain spaces, newlines or special characters.", "CLIENT SETINFO.";
    unknown_argument(argument: &[u8]) = "ERR Unknown argument {}", "FUNCTION LIST.";
    library_exists(name: &[u8]) = "ERR Library '{}' already exists";
    function_exists(name: &[u8]) = "ERR Function {} already exists", "In another library.";
    function_option(option: &[u8]) = "ERR Unknown option given: {}", "FUNCTION LOAD.";
    unknown_hash_argument(argument: &[u8]) = "ERR unknown argument: {}", "HGETEX and HSETEX.";
    not_for_subscribers(command: &str) = "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", "To a client in RESP2 that has subscriptions.";
    unknown_client_type(name: &[u8]) = "ERR Unknown client type '{}'";
    no_such_user(name: &[u8]) = "ERR No such user '{}'", "CLIENT KILL.";
    config_unknown_option(name: &[u8]) = "ERR Unknown option or number of arguments for CONFIG SET - '{}'";
    config_set_failed(name: &[u8], reason: &str) = "ERR CONFIG SET failed (possibly related to argument '{}') - {}";
    acl_modifier(modifier: &[u8], reason: &str) = "ERR Error in ACL SETUSER modifier '{}': {}";
    acl_unknown_category(name: &[u8]) = "ERR Unknown category '{}'";
    acl_user_not_found(name: &[u8]) = "ERR User '{}' not found", "ACL DRYRUN.";
    acl_command_not_found(name: &[u8]) = "ERR Command '{}' not found", "ACL DRYRUN.";
    geosearch_without_origin(name: &[u8]) = "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}", "The command's name as the client wrote it.";
    geosearch_without_shape(name: &[u8]) = "ERR exactly one of BYRADIUS and BYBOX can be specified for {}", "As above.";
    unknown_pfdebug_subcommand(name: &[u8]) = "ERR Unknown PFDEBUG subcommand '{}'";
    shebang_engine(engine: &[u8]) = "ERR Unexpected engine in script shebang: {}";
    shebang_option(option: &[u8]) = "ERR Unknown lua shebang option: {}";
    shebang_flag(flag: &[u8]) = "ERR Unexpected flag in script shebang: {}";
    library_metadata(option: &[u8]) = "ERR Invalid metadata value given: {}";
    engine_not_found(engine: &[u8]) = "ERR Engine '{}' not found";
    script_not_compiled(reason: &[u8]) = "ERR Error compiling script (new function): {}";
    library_not_compiled(reason: &[u8]) = "ERR Error compiling function: {}";
    library_not_registered(reason: &[u8]) = "ERR Error registering functions: {}";
    script_failed(name: &[u8], reason: &[u8]) = "ERR Error running script {}, {}", "What no handler of the script could describe, such as the want of memory.";
    no_latency_samples(event: &[u8]) = "ERR No samples available for event '{}'";
}

/// What may stand in the place of a `{}`.
trait Piece {
    fn to_piece(&self) -> Cow<'_, [u8]>;
}

/// Bytes of a client's end at a NUL, as in Redis, which inserts them as C strings.
impl Piece for [u8] {
    fn to_piece(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(memchr::memchr(0, self).map_or(self, |end| &self[..end]))
    }
}

impl Piece for str {
    fn to_piece(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl Piece for i64 {
    fn to_piece(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.to_string().into_bytes())
    }
}

impl Piece for u16 {
    fn to_piece(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.to_string().into_bytes())
    }
}

/// Puts the pieces in the places of the template's `{}`.
fn fill(template: &str, pieces: &[&[u8]]) -> ReplyError {
    let mut pieces = pieces.iter();
    let mut text = Vec::with_capacity(template.len() + 32);
    for (index, literal) in template.split("{}").enumerate() {
        if index > 0 {
            text.extend_from_slice(pieces.next().expect("a template has a place for each argument"));
        }
        text.extend_from_slice(literal.as_bytes());
    }
    debug_assert!(pieces.next().is_none());
    ReplyError::owned(text)
}

/// `ERR invalid longitude,latitude pair 200.000000,100.000000`
pub fn invalid_coordinates(longitude: f64, latitude: f64) -> ReplyError {
    ReplyError::owned(format!(
        "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
    ))
}

/// `EXECABORT Transaction discarded because of: <why EXEC itself was refused>`. A code other than `ERR` is repeated.
pub fn exec_aborted_because(error: &ReplyError) -> ReplyError {
    let reason = error.text().strip_prefix(b"ERR ").unwrap_or(error.text());
    fill("EXECABORT Transaction discarded because of: {}", &[reason])
}

/// The answer to a command that does not exist. It repeats the name, and the arguments as far as they go into 128 bytes; each ends,
/// as a C string does, at its first NUL.
pub fn unknown_command(args: Args<'_>) -> ReplyError {
    let mut echoed: Vec<u8> = Vec::new();
    for arg in args.slice_from(1).iter() {
        if echoed.len() >= ERROR_ECHO_BYTES_MAX {
            break;
        }
        let room = ERROR_ECHO_BYTES_MAX - echoed.len();
        echoed.push(b'\'');
        echoed.extend_from_slice(echo(arg, room));
        echoed.extend_from_slice(b"' ");
    }
    let name = echo(args.get(0).unwrap_or_default(), ERROR_ECHO_BYTES_MAX);
    fill(
        "ERR unknown command '{}', with args beginning with: {}",
        &[name, &echoed],
    )
}

/// `ERR unknown subcommand 'foo'. Try CLIENT HELP.` for a container command; its name is shown in capitals.
pub fn unknown_subcommand(container: &str, subcommand: &[u8]) -> ReplyError {
    let subcommand = echo(subcommand, ERROR_ECHO_BYTES_MAX);
    let container = container.to_ascii_uppercase();
    fill(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        &[subcommand, container.as_bytes()],
    )
}

/// `ERR unknown subcommand or wrong number of arguments for 'foo'. Try CLIENT HELP.`: what a subcommand answers that finds its arguments
/// wrong itself.
pub fn unknown_subcommand_or_arity(container: &str, subcommand: &[u8]) -> ReplyError {
    let subcommand = echo(subcommand, ERROR_ECHO_BYTES_MAX);
    let container = container.to_ascii_uppercase();
    let template = "ERR unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.";
    fill(template, &[subcommand, container.as_bytes()])
}

/// `ERR Prefix 'a' overlaps with an existing prefix 'ab'. ...`
pub fn tracking_prefix_overlaps(prefix: &[u8], other: &[u8]) -> ReplyError {
    overlapping(prefix, b"an existing prefix", other)
}

/// `ERR Prefix 'a' overlaps with another provided prefix 'ab'. ...`
pub fn tracking_prefixes_overlap(prefix: &[u8], other: &[u8]) -> ReplyError {
    overlapping(prefix, b"another provided prefix", other)
}

fn overlapping(prefix: &[u8], what: &[u8], other: &[u8]) -> ReplyError {
    let [prefix, other] = [prefix, other].map(|text| echo(text, text.len()));
    fill(
        "ERR Prefix '{}' overlaps with {} '{}'. Prefixes for a single client must not overlap.",
        &[prefix, what, other],
    )
}

/// The first bytes of what a client sent, as a C string would show them.
fn echo(text: &[u8], bytes_max: usize) -> &[u8] {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    &text[..end.min(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn the_registry_is_well_formed() {
        for (index, (name, text)) in ALL.iter().enumerate() {
            let error = ReplyError::Static(text);
            assert!(error.code().bytes().all(|byte| byte.is_ascii_uppercase()), "{name}");
            // Redis says no more of a SAVE that has failed.
            let is_bare = *name == "SAVE_FAILED";
            assert!(is_bare || text.len() > error.code().len() + 1, "{name}");
            assert!(!text.contains(['\r', '\n']) && text.trim() == *text, "{name}");
            assert!(
                ALL[..index].iter().all(|(_, earlier)| earlier != text),
                "{name} stands there twice"
            );
        }
    }

    #[test]
    fn parts_of_an_error() {
        assert_eq!(WRONG_TYPE.code(), "WRONGTYPE");
        assert_eq!(SYNTAX.message(), b"syntax error");
        assert_eq!(ReplyError::owned("ERR a\r\nb").text(), b"ERR a  b");
        assert_eq!(
            exec_aborted_because(&SYNTAX).to_string(),
            "EXECABORT Transaction discarded because of: syntax error"
        );
        assert_eq!(
            exec_aborted_because(&TRY_AGAIN).to_string(),
            "EXECABORT Transaction discarded because of: TRYAGAIN Multiple keys request during rehashing of slot"
        );
    }

    #[test]
    fn templates_take_their_arguments() {
        assert_eq!(
            wrong_arity("client|list").to_string(),
            "ERR wrong number of arguments for 'client|list' command"
        );
        assert_eq!(
            out_of_bounds(-1, 5).to_string(),
            "ERR value is out of range, value must between -1 and 5"
        );
        assert_eq!(moved(3999, "127.0.0.1", 6381).to_string(), "MOVED 3999 127.0.0.1:6381");
        assert_eq!(
            no_group_of_key(b"g{}\n", b"k").text(),
            b"NOGROUP No such consumer group 'g{} ' for key name 'k'"
        );
        assert_eq!(
            no_group_of_key(b"g\0h", b"k").text(),
            b"NOGROUP No such consumer group 'g' for key name 'k'"
        );
        assert_eq!(
            invalid_coordinates(200.0, -1e9).to_string(),
            "ERR invalid longitude,latitude pair 200.000000,-1000000000.000000"
        );
    }

    #[test]
    fn unknown_command_repeats_a_bounded_part() {
        let text = |args: &[&[u8]]| unknown_command(OwnedArgs::from_slices(args).as_args()).text().to_vec();
        assert_eq!(
            text(&[b"foo", b"a", b"b\nc"]),
            b"ERR unknown command 'foo', with args beginning with: 'a' 'b c' "
        );
        assert_eq!(
            text(&[b"f\0o", b"a\0b"]),
            b"ERR unknown command 'f', with args beginning with: 'a' "
        );
        let long = [b'x'; 300];
        let expected = [
            b"ERR unknown command '",
            &long[..128],
            b"', with args beginning with: '",
            &long[..100],
            b"' '",
            &long[..25],
            b"' ",
        ];
        assert_eq!(text(&[&long, &long[..100], &long, b"z"]), expected.concat());
        assert_eq!(
            unknown_subcommand("client", b"Foo\xff").text(),
            b"ERR unknown subcommand 'Foo\xff'. Try CLIENT HELP."
        );
    }
}
