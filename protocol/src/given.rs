//! Strings that may be malformed without failing the whole request, such as one id in a list.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A string in a list: one that is not a `T` must not spoil the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Given<T> {
    /// It is a `T`.
    Known(T),
    /// It is not a `T`.
    Unknown(String),
}

impl<T: Serialize> Serialize for Given<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(value) => value.serialize(serializer),
            Self::Unknown(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);
        impl<T: FromStr> Visitor<'_> for Text<T> {
            type Value = Given<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Given<T>, E> {
                Ok(text.parse().map_or_else(|_| Given::Unknown(text.to_owned()), Given::Known))
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}
