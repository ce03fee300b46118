//! The compact form of JSON Web Tokens (RFC 7515 section 3.1, RFC 7519).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::TokenError;
use super::key::SigningKey;

/// Longest token that is looked at, in bytes. Google's are below 2 KiB; a header field cannot exceed 64 KiB anyway.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token taken apart; nothing about it has been checked yet.
#[derive(Debug)]
pub struct Parsed<'a> {
    pub header: Header,
    pub claims: Value,
    /// What the signature covers: header and claims as sent.
    pub signed: &'a str,
    pub signature: Vec<u8>,
}

/// The JOSE header.
#[derive(Debug, Deserialize)]
pub struct Header {
    pub alg: String,
    #[serde(default)]
    pub kid: String,
}

/// Takes a token apart.
pub fn parse(token: &str) -> Result<Parsed<'_>, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed("it is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("it has no three parts"))?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed("it has no three parts"))?;
    if claims.contains('.') {
        return Err(TokenError::Malformed("it has more than three parts"));
    }
    let header = decode(header)?;
    let header =
        serde_json::from_slice(&header).map_err(|_| TokenError::Malformed("its header is no JSON"))?;
    let claims: Value = serde_json::from_slice(&decode(claims)?)
        .map_err(|_| TokenError::Malformed("its claims are no JSON"))?;
    if !claims.is_object() {
        return Err(TokenError::Malformed("its claims are no object"));
    }
    Ok(Parsed { header, claims, signed, signature: decode(signature)? })
}

/// Signs claims with RS256.
pub fn sign(key: &SigningKey, claims: &Value) -> String {
    sign_text(key, &claims.to_string())
}

/// Signs claims that are JSON text already; the text is kept as it is.
pub fn sign_text(key: &SigningKey, claims: &str) -> String {
    let header = json!({ "alg": "RS256", "kid": key.id(), "typ": "JWT" }).to_string();
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("a part is not base64url"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_token_is_refused() {
        for text in
            ["", "abc", "a.b", "a.b.c", "....", "e30.e30.", "e30.W10.e30", "eyJhbGciOiJSUzI1NiJ9.e30.!!"]
        {
            assert!(matches!(parse(text), Err(TokenError::Malformed(_))), "{text:?}");
        }
        assert!(parse("eyJhbGciOiJSUzI1NiJ9.e30.").is_ok());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[ -~é]{0,80}") {
            let _ = parse(&text);
        }
    }
}
