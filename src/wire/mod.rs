//! What a bot and the supervisor say to each other.
//!
//! ```text
//!   stdin of the new process:  Bootstrap                      (one frame, then end of file)
//!   HOME/.deia/run/bots/bots.sock:
//!     bot -> supervisor   Hello, Ready, Heartbeat, Started, Output*, Finished
//!     supervisor -> bot   Welcome, Assign, Cancel, Ack, Stop
//! ```
//!
//! A frame is a little-endian `u32` length, a version byte and a postcard body; the length counts
//! the version byte and the body and is at most [`MAX_FRAME_BYTES`]. A frame that is longer, of
//! another version or not decodable ends the connection: nothing is skipped or guessed.
//!
//! The secret in [`Bootstrap`] is random, of one process only, and never in an argument or an
//! environment, where other processes could read it. The supervisor also compares the peer's pid.

mod codec;
mod frames;

pub use codec::{
    FrameError, MAX_FRAME_BYTES, PROTOCOL_VERSION, decode, encode, read_frame, write_frame,
};
pub use frames::*;
