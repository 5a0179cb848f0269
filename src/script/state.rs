//! What a shard has of the language: its interpreters, and what is compiled in them.
//!
//! Scripts and functions have an interpreter each, as in Redis, so that SCRIPT FLUSH leaves what a library keeps in its variables; each is made when it is first needed. Scripts
//! are compiled when they are first run here: the engine keeps their texts, once for the process, and each shard compiles those it runs.
//!
//! Libraries are loaded into each shard that runs them, each with variables of its own.

use hashbrown::HashMap;

use super::header::{self, ScriptFlags};
use super::host::{Ending, Host};
use super::library::{Library, LibraryFunction, Registration};
use super::sandbox::Purpose;
use super::vm::{Compiled, Vm};
use crate::resp::{Reply, ReplyError, error};

/// A script's name: the SHA1 of its text, in lower-case hexadecimal digits.
pub type Sha = [u8; 40];

/// A script, as EVAL and EVALSHA know it.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    pub sha: &'a Sha,
    pub body: &'a [u8],
}

/// The bounds of a [`State`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of each of its interpreters: `lua-memory-max`.
    pub memory_bytes_max: usize,
}

/// See the module's text.
pub struct State {
    limits: Limits,
    scripts: Option<Vm>,
    compiled: HashMap<Sha, Compiled>,
    functions: Option<Vm>,
    libraries: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// By their names in lower case.
    callable: HashMap<Vec<u8>, Callable>,
}

struct Callable {
    /// As it was registered.
    name: Vec<u8>,
    function: Compiled,
}

impl State {
    /// A state in which nothing is compiled.
    pub fn new(limits: Limits) -> State {
        State {
            limits,
            scripts: None,
            compiled: HashMap::new(),
            functions: None,
            libraries: HashMap::new(),
            callable: HashMap::new(),
        }
    }

    /// Sets other bounds. What is there already may be beyond them.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        for vm in [&mut self.scripts, &mut self.functions].into_iter().flatten() {
            vm.set_bytes_max(limits.memory_bytes_max);
        }
    }

    /// Looks whether a script could be run, for SCRIPT LOAD and EVAL: what its first line says.
    pub fn check(&mut self, script: Script<'_>) -> Result<Option<ScriptFlags>, ReplyError> {
        let (flags, _) = header::of_script(script.body)?;
        self.compiled(script)?;
        Ok(flags)
    }

    /// Runs a script, and writes its result. After an error, or an unwinding, nothing is written.
    pub fn eval(
        &mut self,
        script: Script<'_>,
        keys: &[&[u8]],
        args: &[&[u8]],
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Result<(), Ending> {
        let function = self.compiled(script).map_err(|error| Ending::Error {
            error,
            is_counted: false,
        })?;
        self.scripts().run(function, script.sha, keys, args, host, reply)
    }

    fn compiled(&mut self, script: Script<'_>) -> Result<Compiled, ReplyError> {
        if let Some(&function) = self.compiled.get(script.sha) {
            return Ok(function);
        }
        let (_, code) = header::of_script(script.body)?;
        let function = self
            .scripts()
            .compile(code)
            .map_err(|message| error::script_not_compiled(&message))?;
        self.compiled.insert(*script.sha, function);
        Ok(function)
    }

    fn scripts(&mut self) -> &mut Vm {
        let bytes_max = self.limits.memory_bytes_max;
        self.scripts.get_or_insert_with(|| Vm::new(Purpose::Scripts, bytes_max))
    }

    fn functions(&mut self) -> &mut Vm {
        let bytes_max = self.limits.memory_bytes_max;
        self.functions
            .get_or_insert_with(|| Vm::new(Purpose::Functions, bytes_max))
    }

    /// Forgets a script.
    pub fn forget(&mut self, sha: &Sha) {
        if let Some(function) = self.compiled.remove(sha) {
            self.scripts().release(function);
        }
    }

    /// SCRIPT FLUSH: forgets all scripts, and all that they have left in their interpreter.
    pub fn forget_all(&mut self) {
        self.compiled = HashMap::new();
        self.scripts = None;
    }

    /// Loads a library, in the place of the one of this name: runs its code, which registers its functions. With an error everything is as before. Names of
    /// functions that another library has are for the caller to refuse: here they would replace that library's.
    pub fn load_library(&mut self, body: &[u8], host: &mut dyn Host) -> Result<Library, ReplyError> {
        let (name, registration) = self.register(body, host)?;
        self.drop_library(&name);
        let mut library = Library {
            name,
            functions: Vec::new(),
        };
        let mut keys = Vec::new();
        for (described, function) in registration.functions {
            let key = described.name.to_ascii_lowercase();
            let callable = Callable {
                name: described.name.clone(),
                function,
            };
            if let Some(earlier) = self.callable.insert(key.clone(), callable) {
                self.functions().release(earlier.function);
            }
            keys.push(key);
            library.functions.push(described);
        }
        self.libraries.insert(library.name.clone(), keys);
        Ok(library)
    }

    /// Runs the code of a library as `load_library` does, but only to see what it would register.
    pub fn check_library(&mut self, body: &[u8], host: &mut dyn Host) -> Result<Library, ReplyError> {
        let (name, registration) = self.register(body, host)?;
        let functions: Vec<LibraryFunction> = registration
            .functions
            .into_iter()
            .map(|(described, function)| {
                self.functions().release(function);
                described
            })
            .collect();
        Ok(Library { name, functions })
    }

    fn register(&mut self, body: &[u8], host: &mut dyn Host) -> Result<(Vec<u8>, Registration), ReplyError> {
        let (name, code) = header::of_library(body)?;
        let registration = self.functions().load(code, host)?;
        Ok((name, registration))
    }

    /// Whether the library is loaded here.
    pub fn has_library(&self, name: &[u8]) -> bool {
        self.libraries.contains_key(name)
    }

    /// Forgets a library with its functions.
    pub fn drop_library(&mut self, name: &[u8]) {
        for key in self.libraries.remove(name).unwrap_or_default() {
            if let Some(callable) = self.callable.remove(&key) {
                self.functions().release(callable.function);
            }
        }
    }

    /// FUNCTION FLUSH: forgets all libraries.
    pub fn forget_libraries(&mut self) {
        self.libraries = HashMap::new();
        self.callable = HashMap::new();
        self.functions = None;
    }

    /// Calls a function of a loaded library, whatever the case of its name, and writes its result.
    pub fn call_function(
        &mut self,
        name: &[u8],
        keys: &[&[u8]],
        args: &[&[u8]],
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Result<(), Ending> {
        let found = match self.callable.get(name) {
            Some(callable) => Some(callable),
            None => self.callable.get(&name.to_ascii_lowercase()),
        };
        let (Some(callable), Some(vm)) = (found, &mut self.functions) else {
            return Err(Ending::Error {
                error: error::FUNCTION_NOT_FOUND,
                is_counted: false,
            });
        };
        vm.run(callable.function, &callable.name, keys, args, host, reply)
    }

    /// Bytes of the interpreter of scripts: `used_memory_vm_eval`.
    pub fn script_memory_bytes(&self) -> usize {
        self.scripts.as_ref().map_or(0, Vm::used_bytes)
    }

    /// Bytes of the interpreter of functions: `used_memory_vm_functions`.
    pub fn function_memory_bytes(&self) -> usize {
        self.functions.as_ref().map_or(0, Vm::used_bytes)
    }

    /// Bytes of both interpreters.
    pub fn memory_bytes(&self) -> usize {
        self.script_memory_bytes() + self.function_memory_bytes()
    }

    /// Scripts that are compiled here.
    pub fn compiled_count(&self) -> usize {
        self.compiled.len()
    }
}
