//! Points in time as they stand in documents: whole seconds of UTC, RFC 3339 text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A second of UTC; text form `2026-11-23T14:00:00Z`.
///
/// What a writer claims, never a proof: validity in a vault is position in a chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// The time that lies `seconds` after 1970-01-01T00:00:00Z, clamped to the years that the text form has.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        let clamped = seconds.clamp(-62_135_596_800, 253_402_207_200);
        Self(jiff::Timestamp::from_second(clamped).expect("the clamp keeps to years 1 to 9999"))
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Time {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let time: jiff::Timestamp = text.parse().map_err(|_| BadTime)?;
        Ok(Self::from_unix_seconds(time.as_second()))
    }
}

/// Says that a text is not a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as RFC 3339, such as 2026-11-23T14:00:00Z")]
pub struct BadTime;

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc_3339_in_whole_seconds() {
        let time = Time::from_unix_seconds(1_763_906_400);
        assert_eq!(time.to_string(), "2025-11-23T14:00:00Z");
        assert_eq!("2025-11-23T15:00:00.75+01:00".parse(), Ok(time));
        assert_eq!("yesterday".parse::<Time>(), Err(BadTime));
        assert!(Time::from_unix_seconds(i64::MAX).to_string().starts_with("9999-"));
    }
}
