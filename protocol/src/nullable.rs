//! Members of a patch, for which absent, `null` and a value are three things.

use serde::Deserialize;
use serde::de::Deserializer;

/// Distinguishes a `null` member from an absent one.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Refuses `null` for a member without a default.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) fn not_null<T>(name: &str, given: Option<Option<T>>) -> Result<Option<T>, String> {
    given.map(|value| value.ok_or_else(|| format!("{name}: it cannot be null"))).transpose()
}
