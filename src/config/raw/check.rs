//! A check in the form of the annotation, or as a mapping of its kind to its keys.

use std::fmt;

use serde::Deserialize;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A check as it is written: `http:80/healthz`, or `{http: {port: 80, path: /healthz}}`.
#[derive(Debug)]
pub(in crate::config) enum Check {
    Text(String),
    Keys { kind: String, keys: Vec<(String, Spanned<Value>)> },
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Check;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a check such as 'http:80/healthz' or {http: {port: 80}}")
            }

            fn visit_str<E>(self, text: &str) -> Result<Check, E> {
                Ok(Check::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Check, A::Error> {
                let one = || A::Error::custom("a check has one kind, such as {http: {port: 80}}");
                let (kind, keys) = map.next_entry::<String, Keys>()?.ok_or_else(one)?;
                match map.next_key::<String>()? {
                    None => Ok(Check::Keys { kind, keys: keys.0 }),
                    Some(_) => Err(one()),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Keys in their order; what they mean depends on the kind.
struct Keys(Vec<(String, Spanned<Value>)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of keys to values, such as {port: 80}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// A value of any simple type, or a list of such, as the annotation would write it.
#[derive(Debug)]
pub(in crate::config) struct Value(pub String);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Simple;

        impl<'de> Visitor<'de> for Simple {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false, or a list of these")
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value(value.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(Value(item)) = list.next_element()? {
                    items.push(item);
                }
                Ok(Value(items.join(",")))
            }
        }

        deserializer.deserialize_any(Simple)
    }
}
