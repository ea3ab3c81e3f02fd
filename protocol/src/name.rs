//! Names of queues, of job types, of budgets, of cron groups and their entries, and of access tokens.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::error::excerpt;

/// The longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It has no characters.
    #[error("a name must not be empty")]
    Empty,
    /// It has more than [`MAX_NAME_BYTES`].
    #[error("a name has at most {MAX_NAME_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// It has a character with a meaning in lists, patterns or terminals.
    #[error("`{name}` contains {bad:?}; a name must not contain , * ? [ ] {{ }} \\ or control characters")]
    Reserved {
        /// The start of the name.
        name: String,
        /// The first such character.
        bad: char,
    },
}

fn check(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong(name.len()));
    }
    let reserved = |c: char| matches!(c, ',' | '*' | '?' | '[' | ']' | '{' | '}' | '\\') || c.is_control();
    match name.chars().find(|&c| reserved(c)) {
        Some(bad) => Err(InvalidName::Reserved { name: excerpt(name), bad }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $Name(SmolStr);

        impl $Name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`InvalidName`] says which rule it breaks.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check(name).map(|()| Self(SmolStr::new(name)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $Name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $Name {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $Name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a name (string)")
                    }

                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<$Name, E> {
                        $Name::new(name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

name! {
    /// The name of a queue. Queues exist on demand: the first job creates one.
    QueueName
}

name! {
    /// The type of a job: workers decide by it what to do.
    JobType
}

name! {
    /// The name of a budget.
    BudgetKey
}

name! {
    /// The name of a cron group, or of an entry in one.
    CronName
}

name! {
    /// The name of an access token: whom or what it is for.
    TokenName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert!(QueueName::new("mails/höher-1.2 x").is_ok());
        assert_eq!(QueueName::new(""), Err(InvalidName::Empty));
        assert!(QueueName::new(&"x".repeat(255)).is_ok());
        assert_eq!(QueueName::new(&"ä".repeat(128)), Err(InvalidName::TooLong(256)));
        for bad in [',', '*', '?', '[', ']', '{', '}', '\\', '\0', '\n', '\u{7f}', '\u{85}'] {
            let name = format!("a{bad}b");
            assert_eq!(JobType::new(&name), Err(InvalidName::Reserved { name: excerpt(&name), bad }));
        }
    }
}
