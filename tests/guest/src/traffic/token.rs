//! The random number that tells one connection, or one UDP session, from every other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 128 random bits that the server draws when it accepts, and never writes down outside its memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(pub [u8; 16]);

/// A text is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no token; a token is 32 hexadecimal digits")]
pub struct NotAToken(String);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.to_string()
    }
}

impl TryFrom<String> for Token {
    type Error = NotAToken;

    fn try_from(text: String) -> Result<Self, NotAToken> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(&text, 16) {
            Ok(bits) if digits => Ok(Self(bits.to_be_bytes())),
            _ => Err(NotAToken(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_nothing_else_is_one() {
        let token = Token(*b"0123456789abcdef");
        assert_eq!(Token::try_from(token.to_string()).unwrap(), token);
        for text in ["", "12", "+0000000000000000000000000000000", "zz"] {
            assert!(Token::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
