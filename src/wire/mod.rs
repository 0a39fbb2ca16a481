//! What a bot and the supervisor say to each other.
//!
//! ```text
//!   stdin of the new process:  Bootstrap                      (one frame, then end of file)
//!   HOME/.deia/run/bots/bots.sock:
//!     bot -> supervisor   Hello, Ready, Started, Output*, Finished
//!     supervisor -> bot   Welcome or WelcomeBack, Assign, Cancel, Ack, Stop
//!   an anonymous file of the bot's: Pulse                      (written at every beat, read at will)
//! ```
//!
//! A bot that loses its supervisor works on and dials again. Its second `Hello` says what it has
//! ([`Back`]); the answer says what it keeps and how much of each output has arrived, and both go on
//! as if nothing had happened.
//!//!
//! A frame is a little-endian `u32` length, a version byte and a postcard body; the length counts
//! the version byte and the body and is at most [`MAX_FRAME_BYTES`]. A frame that is longer, of
//! another version or not decodable ends the connection: nothing is skipped or guessed.
//!
//! The secret in [`Bootstrap`] is of one process only and never in an argument or an environment,
//! where other processes could read it. The supervisor also compares the peer's pid and start time.
//!
//! A release speaks this protocol with the bots of the release before it, so that an upgrade finds
//! them at work; what it can't speak it says in its self-check.

mod codec;
mod frames;

pub use codec::{
    FrameError, MAX_FRAME_BYTES, PROTOCOL_VERSION, decode, encode, read_frame, write_frame,
};
pub use frames::*;
