//! The syntax of a command's arguments, as `COMMAND DOCS` describes it and as the generator of the differential tests
//! reads it.

/// What kind of thing an argument is.
#[derive(Clone, Copy, Debug)]
pub enum ArgumentKind {
    String,
    Integer,
    Double,
    /// A key; the number is the index of the key spec that finds it.
    Key(usize),
    Pattern,
    UnixTime,
    /// A literal word: the token itself.
    PureToken,
    /// One of these.
    OneOf(&'static [Argument]),
    /// All of these, in order.
    Block(&'static [Argument]),
}

/// One argument.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    pub name: &'static str,
    pub kind: ArgumentKind,
    /// The word that stands before it (or that it is, for [`ArgumentKind::PureToken`]).
    pub token: Option<&'static str>,
    pub is_optional: bool,
    /// May be given several times.
    pub is_multiple: bool,
    /// The token is repeated each time.
    pub is_token_repeated: bool,
    /// The name shown, where it differs.
    pub display: Option<&'static str>,
    pub summary: &'static str,
    pub since: &'static str,
    pub deprecated_since: &'static str,
}

/// An argument that is given once, with no token.
pub const fn arg(name: &'static str, kind: ArgumentKind) -> Argument {
    Argument {
        name,
        kind,
        token: None,
        is_optional: false,
        is_multiple: false,
        is_token_repeated: false,
        display: None,
        summary: "",
        since: "",
        deprecated_since: "",
    }
}

impl Argument {
    /// A literal word.
    pub const fn word(name: &'static str, token: &'static str) -> Argument {
        arg(name, ArgumentKind::PureToken).token(token)
    }

    /// The key that key spec `spec` finds.
    pub const fn key(name: &'static str, spec: usize) -> Argument {
        arg(name, ArgumentKind::Key(spec))
    }

    pub const fn token(mut self, token: &'static str) -> Argument {
        self.token = Some(token);
        self
    }

    pub const fn optional(mut self) -> Argument {
        self.is_optional = true;
        self
    }

    pub const fn multiple(mut self) -> Argument {
        self.is_multiple = true;
        self
    }

    pub const fn token_repeated(mut self) -> Argument {
        self.is_multiple = true;
        self.is_token_repeated = true;
        self
    }

    pub const fn shown_as(mut self, display: &'static str) -> Argument {
        self.display = Some(display);
        self
    }

    pub const fn since(mut self, version: &'static str) -> Argument {
        self.since = version;
        self
    }

    pub const fn deprecated(mut self, version: &'static str) -> Argument {
        self.deprecated_since = version;
        self
    }
}
