//! The first frame: who this process is, read from standard input before anything else.

use std::io::Read;

use deia::wire::{self, Bootstrap, FrameError};
use zeroize::Zeroizing;

/// Most bytes of a bootstrap frame: a path, a name and a secret.
pub const MAX_BOOTSTRAP_BYTES: usize = 64 * 1024;

/// Reads one [`Bootstrap`] frame, blocking.
///
/// # Errors
/// Any [`FrameError`]; an end of input before a whole frame is [`FrameError::Io`].
pub fn read(input: &mut impl Read) -> Result<Bootstrap, FrameError> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > MAX_BOOTSTRAP_BYTES {
        return Err(FrameError::Length(length));
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    input.read_exact(&mut bytes)?;
    wire::decode(&bytes)
}

#[cfg(test)]
mod tests {
    use deia::wire::{Launch, Secret};

    use super::*;

    #[test]
    fn reads_what_the_supervisor_writes_and_nothing_longer() {
        let sent = Bootstrap {
            socket: "/run/x/bots.sock".into(),
            bot_id: "coder-2".into(),
            launch: Launch(1),
            secret: Secret([7; 32]),
        };
        let mut bytes = Vec::new();
        wire::encode(&sent, &mut bytes).unwrap();
        assert_eq!(read(&mut bytes.as_slice()).unwrap(), sent);
        assert!(matches!(
            read(&mut &bytes[..bytes.len() - 1]),
            Err(FrameError::Io(_))
        ));
        let huge = (MAX_BOOTSTRAP_BYTES as u32 + 1).to_le_bytes();
        assert!(matches!(
            read(&mut huge.as_slice()),
            Err(FrameError::Length(_))
        ));
    }
}
