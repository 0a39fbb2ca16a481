//! Whether a request is signed, in the form of Standard Webhooks: `webhook-signature` has `v1,<base64>` of the
//! HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`; several, with spaces between, where secrets change.
//!
//! Pure: the time is an argument. That a name is taken once is the store's matter.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deia::time::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Signer;

/// How far the time stamp may be from this host's clock, either way.
pub const WINDOW_SECONDS: i64 = 300;

/// Longest name of a request.
pub const MAX_ID_BYTES: usize = 128;

/// Signatures of one request that are looked at.
const MAX_SIGNATURES: usize = 8;

/// A request that is signed as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Its name, `webhook-id`.
    pub id: String,
    /// When it was signed, by its signer's clock; whole seconds.
    pub at: Timestamp,
}

/// Why a request is not taken for its bot's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// A header that is missing, or is there twice, or is not of its form.
    #[error("{0} must be there once: {1}")]
    Header(&'static str, &'static str),
    /// No signature fits.
    #[error(
        "no signature fits: HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body as it is sent>`, with the bytes behind `whsec_` (base64) as the secret"
    )]
    Wrong,
    /// Signed too long ago, or in the future.
    #[error(
        "webhook-timestamp is {0} s away from this host's clock, and {WINDOW_SECONDS} s are allowed: set the clock right, and sign anew"
    )]
    OutOfTime(i64),
}

/// Checks a request of the bot whose secret this is.
///
/// # Errors
/// [`NotSigned`].
pub fn verify(
    signer: &Signer,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Signed, NotSigned> {
    let id = one(
        headers,
        "webhook-id",
        "1-128 of letters, digits, '_' and '-'",
    )?;
    let timestamp = one(headers, "webhook-timestamp", "seconds since 1970")?;
    let signatures = one(headers, "webhook-signature", "v1,<base64>")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(signer.secret()).map_err(|_| NotSigned::Wrong)?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    let fits = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .take(MAX_SIGNATURES)
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        // In constant time.
        .any(|presented| mac.clone().verify_slice(&presented).is_ok());
    if !fits {
        return Err(NotSigned::Wrong);
    }
    // A point in it would make `a.1` + `2` and `a` + `1.2` the same text.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(is_plain) {
        let form = "1-128 of letters, digits, '_' and '-'";
        return Err(NotSigned::Header("webhook-id", form));
    }
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
    let seconds = timestamp.parse::<i64>().ok().filter(|_| digits);
    let micros = seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
    let Some(micros) = micros else {
        let form = "seconds since 1970";
        return Err(NotSigned::Header("webhook-timestamp", form));
    };
    let away = micros.saturating_sub(now.as_micros());
    if away.saturating_abs() > WINDOW_SECONDS * 1_000_000 {
        return Err(NotSigned::OutOfTime(away / 1_000_000));
    }
    Ok(Signed {
        id: id.to_owned(),
        at: Timestamp::from_micros(micros),
    })
}

fn one<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
    form: &'static str,
) -> Result<&'h str, NotSigned> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(NotSigned::Header(name, form));
    };
    value.to_str().map_err(|_| NotSigned::Header(name, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn sign(signer: &Signer, id: &str, timestamp: &str, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(signer.secret()).unwrap();
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn check(signer: &Signer, id: &str, at: &str, signature: &str) -> Result<Signed, NotSigned> {
        let headers = headers(&[
            ("webhook-id", id),
            ("webhook-timestamp", at),
            ("webhook-signature", signature),
        ]);
        let now = Timestamp::from_micros(NOW * 1_000_000);
        verify(signer, &headers, b"{}", now)
    }

    /// The example of the Standard Webhooks specification's reference library.
    #[test]
    fn it_is_the_standard_form() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        assert_eq!(
            STANDARD.encode(mac.finalize().into_bytes()),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn only_its_own_signature_in_time_is_taken() {
        let (signer, other) = (Signer::generate(), Signer::generate());
        let now = NOW.to_string();
        let right = sign(&signer, "m-1", &now, "{}");
        let signed = check(&signer, "m-1", &now, &right).unwrap();
        assert_eq!(
            (signed.id.as_str(), signed.at.as_micros()),
            ("m-1", NOW * 1_000_000)
        );
        let wrong = sign(&other, "m-1", &now, "{}");
        // One of several is enough.
        let both = format!("v1a,xyz {wrong} v1,??? {right}");
        assert!(check(&signer, "m-1", &now, &both).is_ok());
        for (id, at, signature) in [
            ("m-1", now.as_str(), wrong.as_str()),
            ("m-2", &now, &right),
            ("m-1", "1700000001", &right),
            ("m-1", &now, &right[3..]),
            ("m-1", &now, &right.replace("v1,", "v2,")),
            ("m-1", &now, "v1,"),
            ("m-1", &now, &sign(&signer, "m-1", &now, "{} ")),
        ] {
            assert_eq!(check(&signer, id, at, signature), Err(NotSigned::Wrong));
        }
        for (seconds, fits) in [(-300, true), (-301, false), (300, true), (301, false)] {
            let at = (NOW + seconds).to_string();
            let signed = check(&signer, "m", &at, &sign(&signer, "m", &at, "{}"));
            assert_eq!(signed.is_ok(), fits, "{seconds}: {signed:?}");
        }
        for (id, at) in [
            ("a.1", now.as_str()),
            ("", &now),
            ("a", "+1700000000"),
            ("a", "9223372036854775807"),
            ("a", "1.7e9"),
        ] {
            let refused = check(&signer, id, at, &sign(&signer, id, at, "{}"));
            assert!(matches!(refused, Err(NotSigned::Header(..))), "{refused:?}");
        }
    }

    #[test]
    fn a_header_is_there_once() {
        let signer = Signer::generate();
        let (at, now) = (NOW.to_string(), Timestamp::from_micros(NOW * 1_000_000));
        let signature = sign(&signer, "m", &at, "");
        let all = [
            ("webhook-id", "m"),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        assert!(verify(&signer, &headers(&all), b"", now).is_ok());
        for n in 0..all.len() {
            let (mut without, mut twice) = (all.to_vec(), all.to_vec());
            without.remove(n);
            twice.push(all[n]);
            for values in [without, twice] {
                let refused = verify(&signer, &headers(&values), b"", now);
                assert!(matches!(refused, Err(NotSigned::Header(..))), "{refused:?}");
            }
        }
    }
}
