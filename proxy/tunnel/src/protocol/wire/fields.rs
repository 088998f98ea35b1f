//! Texts within a frame: a length of one byte, then as many bytes.

use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;

pub(in crate::protocol) fn put_text(out: &mut BytesMut, text: &str) {
    let length = u8::try_from(text.len()).expect("names and addresses are below 256 bytes");
    out.put_u8(length);
    out.put_slice(text.as_bytes());
}

pub(in crate::protocol) fn take_text(
    body: &mut Bytes,
    what: &'static str,
) -> Result<String, WireError> {
    let length = usize::from(body.try_get_u8()?);
    if body.len() < length {
        return Err(WireError::Short);
    }
    let text = body.split_to(length);
    std::str::from_utf8(&text).map(str::to_owned).map_err(|_| WireError::Text(what))
}

/// A name, by the rules of its type.
pub(in crate::protocol) fn take_name<T: FromStr>(
    body: &mut Bytes,
    what: &'static str,
) -> Result<T, WireError> {
    take_text(body, what)?.parse().map_err(|_| WireError::Text(what))
}

pub(in crate::protocol) fn take_flag(
    body: &mut Bytes,
    what: &'static str,
) -> Result<bool, WireError> {
    match body.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(WireError::Unknown { what, value: other.into() }),
    }
}
