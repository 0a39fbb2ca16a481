//! Frames to bytes and back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version byte of every frame.
pub const PROTOCOL_VERSION: u8 = 1;

/// Most bytes in a frame after its length. Larger than any task's content may be
/// (`tasks.max_content_bytes` is at most 6 MiB).
pub const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

const LENGTH_BYTES: usize = 4;

/// Why a connection has to end.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Reading or writing failed.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// Longer than [`MAX_FRAME_BYTES`], or empty.
    #[error("a frame of {0} bytes is not between 1 and {MAX_FRAME_BYTES}")]
    Length(usize),
    /// From another protocol version.
    #[error("a frame of protocol version {0}, this is {PROTOCOL_VERSION}")]
    Version(u8),
    /// Not a frame.
    #[error("a frame that does not decode: {0}")]
    Decode(postcard::Error),
    /// Could not be encoded.
    #[error("a frame that does not encode: {0}")]
    Encode(postcard::Error),
}

/// A whole frame, length included, appended to `out`.
///
/// # Errors
/// [`FrameError::Encode`], or [`FrameError::Length`] when it is too long; `out` is as it was.
pub fn encode<T: Serialize>(frame: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    let mut buffer = std::mem::take(out);
    buffer.extend_from_slice(&[0; LENGTH_BYTES]);
    buffer.push(PROTOCOL_VERSION);
    match postcard::to_extend(frame, buffer) {
        Ok(mut encoded) => {
            let length = encoded.len() - start - LENGTH_BYTES;
            if length > MAX_FRAME_BYTES {
                encoded.truncate(start);
                *out = encoded;
                return Err(FrameError::Length(length));
            }
            encoded[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
            *out = encoded;
            Ok(())
        }
        Err(e) => Err(FrameError::Encode(e)),
    }
}

/// A frame from the bytes after its length.
///
/// # Errors
/// [`FrameError::Version`], [`FrameError::Decode`] or [`FrameError::Length`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    match bytes.split_first() {
        None => Err(FrameError::Length(0)),
        Some((&PROTOCOL_VERSION, body)) => postcard::from_bytes(body).map_err(FrameError::Decode),
        Some((&version, _)) => Err(FrameError::Version(version)),
    }
}

/// The next frame, or `None` at a clean end. `buffer` is scratch space, kept between calls.
/// Not cancel-safe: give it a task of its own.
///
/// # Errors
/// Any [`FrameError`]; an end in the middle of a frame is [`FrameError::Io`].
pub async fn read_frame<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<Option<T>, FrameError> {
    let mut length = [0; LENGTH_BYTES];
    match reader.read(&mut length[..1]).await? {
        0 => return Ok(None),
        _ => reader.read_exact(&mut length[1..]).await?,
    };
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > MAX_FRAME_BYTES {
        return Err(FrameError::Length(length));
    }
    buffer.clear();
    // Grows as bytes arrive, not as the length promises.
    let got = reader.take(length as u64).read_to_end(buffer).await?;
    if got < length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    let frame = decode(buffer).map(Some);
    if buffer.capacity() > 256 * 1024 {
        *buffer = Vec::new();
    }
    frame
}

/// Writes one frame.
///
/// # Errors
/// Any [`FrameError`] but those of decoding.
pub async fn write_frame<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    frame: &T,
) -> Result<(), FrameError> {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes)?;
    writer.write_all(&bytes).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Fence;
    use crate::wire::{ToSupervisor, ToWorker};

    fn ack() -> ToWorker {
        ToWorker::Ack {
            task: "t".parse().unwrap(),
            fence: Fence {
                epoch: 7,
                attempt: 2,
            },
        }
    }

    #[tokio::test]
    async fn frames_survive_the_way_and_end_cleanly() {
        let mut bytes = Vec::new();
        encode(&ack(), &mut bytes).unwrap();
        encode(&ToWorker::Stop { grace_ms: 5 }, &mut bytes).unwrap();
        let mut reader = bytes.as_slice();
        let mut scratch = Vec::new();
        let next = read_frame::<ToWorker>(&mut reader, &mut scratch)
            .await
            .unwrap();
        assert_eq!(next, Some(ack()));
        let next = read_frame::<ToWorker>(&mut reader, &mut scratch)
            .await
            .unwrap();
        assert_eq!(next, Some(ToWorker::Stop { grace_ms: 5 }));
        let end = read_frame::<ToWorker>(&mut reader, &mut scratch)
            .await
            .unwrap();
        assert_eq!(end, None);
    }

    #[tokio::test]
    async fn a_promise_of_too_much_is_refused_before_any_memory_is_taken() {
        for length in [0u32, MAX_FRAME_BYTES as u32 + 1, u32::MAX] {
            let bytes = length.to_le_bytes();
            let got = read_frame::<ToWorker>(&mut bytes.as_slice(), &mut Vec::new()).await;
            assert!(matches!(got, Err(FrameError::Length(_))), "{got:?}");
        }
    }

    #[tokio::test]
    async fn a_frame_cut_anywhere_is_an_error() {
        let mut bytes = Vec::new();
        encode(&ack(), &mut bytes).unwrap();
        for cut in 1..bytes.len() {
            let got = read_frame::<ToWorker>(&mut &bytes[..cut], &mut Vec::new()).await;
            assert!(got.is_err(), "cut at {cut}: {got:?}");
        }
    }

    #[test]
    fn another_version_is_named() {
        assert!(matches!(
            decode::<ToWorker>(&[PROTOCOL_VERSION + 1, 0]),
            Err(FrameError::Version(v)) if v == PROTOCOL_VERSION + 1
        ));
    }

    #[test]
    fn a_task_id_that_is_none_does_not_decode() {
        #[derive(Serialize)]
        enum Forged {
            Welcome,
            WelcomeBack,
            Assign,
            Cancel { task: String, fence: Fence },
        }
        let _ = (Forged::Welcome, Forged::WelcomeBack, Forged::Assign);
        let forged = Forged::Cancel {
            task: "../../etc".into(),
            fence: Fence {
                epoch: 0,
                attempt: 0,
            },
        };
        let mut bytes = Vec::new();
        encode(&forged, &mut bytes).unwrap();
        assert!(decode::<ToWorker>(&bytes[4..]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = decode::<ToSupervisor>(&bytes);
            let _ = decode::<ToWorker>(&bytes);
        }
    }
}
