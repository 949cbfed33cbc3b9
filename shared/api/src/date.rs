//! Dates as people write them, in requests.
use chrono::NaiveDate;
use serde::{Deserialize, Deserializer};

pub use sexton_model::date::parse;
pub(crate) use sexton_model::date::required;

pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NaiveDate>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| parse(&text).map_err(serde::de::Error::custom)).transpose()
}
