//! The head of a request: what it asks for, before any of its body is read.

use bytes::Bytes;
use hyper::{
    Method,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap},
    http::request::Parts,
};

use super::{body::Format, decode::Encoding, rejection::Rejection};
use crate::secret::Secret;

/// The header that carries a key for all events of a request.
const KEY_HEADER: &str = "forebay-key";
/// The query parameter that does the same.
const KEY_PARAMETER: &str = "key";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) format: Format,
    pub(super) encoding: Encoding,
    pub(super) key: Option<Bytes>,
    /// The content type of raw bytes, to be kept with the event.
    pub(super) content_type: Option<String>,
}

/// Whether the request goes to the right place in the right way.
pub(super) fn addressed(head: &Parts, path: &str) -> Result<(), Rejection> {
    if head.uri.path() != path {
        return Err(Rejection::not_found(path));
    }
    if head.method != Method::POST { Err(Rejection::method_not_allowed()) } else { Ok(()) }
}

/// Whether the request bears `token` (RFC 6750 section 2.1).
pub(super) fn authorized(head: &Parts, token: &Secret) -> Result<(), Rejection> {
    let Some(value) = head.headers.get(AUTHORIZATION) else {
        return Err(Rejection::unauthorized("a token is needed: send `Authorization: Bearer <token>`"));
    };
    let given = value.as_bytes().split_at_checked("Bearer ".len());
    match given {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"Bearer ") && token.matches(given.trim_ascii()) => Ok(()),
        _ => Err(Rejection::unauthorized("this token is not the right one")),
    }
}

/// Reads the head of a request that is to be taken.
pub(super) fn asked(head: &Parts) -> Result<Asked, Rejection> {
    let (format, content_type) = format(&head.headers)?;
    let encoding = encoding(&head.headers)?;
    let key = match head.headers.get(KEY_HEADER) {
        Some(value) => Some(Bytes::copy_from_slice(value.as_bytes())),
        None => head.uri.query().and_then(key_parameter).transpose()?,
    };
    Ok(Asked { format, encoding, key, content_type })
}

fn format(headers: &HeaderMap) -> Result<(Format, Option<String>), Rejection> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Err(Rejection::unknown_type("not given")) };
    let given = value.to_str().map_err(|_| Rejection::unknown_type("not readable"))?;
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok((Format::Json, None)),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            Ok((Format::Ndjson, None))
        }
        "application/octet-stream" | "text/plain" => Ok((Format::Raw, Some(given.to_owned()))),
        other if other.starts_with("application/") && other.ends_with("+json") => Ok((Format::Json, None)),
        _ => Err(Rejection::unknown_type(given)),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Rejection> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let encoding = match (values.next(), values.next()) {
        (None, _) => Some(Encoding::Identity),
        (Some(value), None) => Encoding::from_header(value.as_bytes()),
        (Some(_), Some(_)) => None,
    };
    encoding.ok_or_else(|| {
        let found: Vec<_> = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok()).collect();
        Rejection::unknown_encoding(&found.join(", "))
    })
}

fn key_parameter(query: &str) -> Option<Result<Bytes, Rejection>> {
    let value = query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((KEY_PARAMETER, value)) => Some(value),
        _ => None,
    })?;
    let decoded = percent_decoded(value).map(Bytes::from);
    Some(decoded.ok_or_else(|| Rejection::bad_request(format!("key={value}: a % must be followed by two hex digits"))))
}

/// Undoes `application/x-www-form-urlencoded`, as query strings are.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => (digit()? << 4 | digit()?) as u8,
            other => other,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(build: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder) -> Parts {
        build(hyper::Request::builder().method("POST").uri("/")).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_key_comes_from_the_header_or_the_query() {
        let asked_of = |uri: &str, header: Option<&str>| {
            asked(&head(|request| {
                let request = request.uri(uri).header("Content-Type", "application/json");
                header.into_iter().fold(request, |request, key| request.header("Forebay-Key", key))
            }))
        };
        let key = |uri, header| asked_of(uri, header).unwrap().key;
        assert_eq!(key("/?a=b", None), None);
        assert_eq!(key("/?a=b&key=pump%2F7+x&key=no", None), Some(Bytes::from_static(b"pump/7 x")));
        assert_eq!(key("/?key=a", Some("b")), Some(Bytes::from_static(b"b")));
        assert_eq!(key("/?key=", None), Some(Bytes::new()));
        for wrong in ["/?key=%", "/?key=%4", "/?key=%zz", "/?key=%+4"] {
            assert_eq!(asked_of(wrong, None).unwrap_err().status, 400, "{wrong}");
        }
    }

    #[test]
    fn content_types_are_known_whatever_their_case_and_parameters() {
        let format_of = |value: &str| asked(&head(|request| request.header("Content-Type", value))).map(|a| a.format);
        assert_eq!(format_of("Application/JSON; charset=utf-8"), Ok(Format::Json));
        assert_eq!(format_of("application/cloudevents+json"), Ok(Format::Json));
        assert_eq!(format_of("application/x-ndjson"), Ok(Format::Ndjson));
        assert_eq!(format_of("text/plain"), Ok(Format::Raw));
        for unknown in ["", "application/x-www-form-urlencoded", "text/csv", "application/jsonx", "image/svg+json"] {
            assert_eq!(format_of(unknown).unwrap_err().status, 415, "{unknown}");
        }
    }

    #[test]
    fn one_known_encoding_is_accepted_and_no_other() {
        let encoding_of = |values: &[&str]| {
            asked(&head(|request| {
                let request = request.header("Content-Type", "application/json");
                values.iter().fold(request, |request, value| request.header("Content-Encoding", *value))
            }))
            .map(|asked| asked.encoding)
        };
        assert_eq!(encoding_of(&[]), Ok(Encoding::Identity));
        assert_eq!(encoding_of(&["identity"]), Ok(Encoding::Identity));
        assert_eq!(encoding_of(&["GZIP"]), Ok(Encoding::Gzip));
        assert_eq!(encoding_of(&["zstd"]), Ok(Encoding::Zstd));
        for unknown in [&["br"][..], &["gzip, zstd"], &["gzip", "gzip"]] {
            assert_eq!(encoding_of(unknown).unwrap_err().status, 415, "{unknown:?}");
        }
    }

    #[test]
    fn only_the_right_token_opens() {
        let token = Secret::new("hunter2");
        let check = |value: &str| authorized(&head(|request| request.header("Authorization", value)), &token);
        assert_eq!(check("Bearer hunter2"), Ok(()));
        assert_eq!(check("bearer hunter2"), Ok(()));
        for wrong in ["", "Bearer", "Bearer ", "Bearer hunter", "Basic hunter2", "hunter2", "Bearer hunter22"] {
            assert_eq!(check(wrong).unwrap_err().status, 401, "{wrong}");
        }
        assert_eq!(authorized(&head(|request| request), &token).unwrap_err().status, 401);
    }
}
