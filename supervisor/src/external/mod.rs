//! External bots: programs somewhere else that lease tasks over signed HTTP.
//!
//! ```text
//!   a program --signed request--> http: whose signature? --> main loop: name taken? --Op::Nonce--> act
//!                                       (`signature`)           (`daemon/engine/external`)
//! ```
//!
//! Owns what a registration is and where it is kept (`registry`), and what proves that a request is of a bot
//! (`signature`). Registrations are kept outside the store: a restored store must not bring back a secret that was
//! replaced, or a bot that was removed. What was signed and taken is in the store.

pub mod registry;
pub mod signature;

pub use registry::{Registration, Signer, Signers};
