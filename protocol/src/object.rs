//! Strict objects: an array is not accepted in place of an object, and unknown members are refused or collected.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::excerpt;

/// A `T` that was written as an object. Serde would also accept an array of the members in their order.
///
/// `T` refuses unknown members with `deny_unknown_fields`. Inside `tolerantly` they are withheld from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                if Trail::with(|_| ()).is_some() {
                    T::deserialize(Tolerant(map)).map(Object)
                } else {
                    T::deserialize(MapAccessDeserializer::new(map)).map(Object)
                }
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// An object, and the unknown members of it and of objects in it. They are collected only inside [`tolerantly`].
#[derive(Debug)]
pub(crate) struct Heard<T> {
    pub(crate) value: T,
    pub(crate) unknown: Vec<String>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Heard<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let outside = Trail::with(std::mem::take);
        let Object(value) = Object::deserialize(deserializer)?;
        let inside = outside.and_then(|outside| Trail::with(|trail| std::mem::replace(trail, outside)));
        Ok(Self { value, unknown: inside.unwrap_or_default().unknown })
    }
}

/// The unknown members so far, and the path of the reader.
#[derive(Debug, Default)]
struct Trail {
    path: Vec<String>,
    unknown: Vec<String>,
}

thread_local! {
    /// A thread-local, because serde cannot pass context to the types that it reads.
    static TRAIL: RefCell<Option<Trail>> = const { RefCell::new(None) };
}

impl Trail {
    /// `None` outside of [`tolerantly`].
    fn with<T>(action: impl FnOnce(&mut Self) -> T) -> Option<T> {
        TRAIL.with_borrow_mut(|trail| trail.as_mut().map(action))
    }
}

/// Reads a value whose objects may have unknown members. Returns also the unknown members of objects that were not read
/// to their end.
pub(crate) fn tolerantly<T>(read: impl FnOnce() -> T) -> (T, Vec<String>) {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            TRAIL.set(None);
        }
    }
    let _end = End;
    TRAIL.set(Some(Trail::default()));
    let value = read();
    (value, Trail::with(std::mem::take).unwrap_or_default().unknown)
}

/// A deserializer of an object that withholds unknown members.
struct Tolerant<A>(A);

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Tolerant<A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_map(Known { map: self.0, fields })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The known members of an object.
struct Known<A> {
    map: A,
    fields: &'static [&'static str],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Known<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if self.fields.contains(&&*key) {
                Trail::with(|trail| trail.path.push(key.clone()));
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            Trail::with(|trail| {
                let mut name = trail.path.iter().map(|part| format!("{part}.")).collect::<String>();
                name.push_str(&excerpt(&key));
                trail.unknown.push(name);
            });
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let value = self.map.next_value_seed(seed);
        Trail::with(|trail| trail.path.pop());
        value
    }
}
