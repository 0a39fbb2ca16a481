//! TLS on the port: the certificate, its renewal, and the hand-shake.
//!
//! The rest of the edge does not know of it: a connection is a stream of bytes either way. What is
//! different: a hand-shake comes first, in the time of the first head; and a connection can't be given to
//! another process, for its secrets are this one's. Where plain connections are given back, these are
//! answered, told that they end, and closed; their clients dial again.
//!
//! TLS 1.2 and 1.3, HTTP/1.1 by ALPN. A renewed certificate is read with every reload of the
//! configuration (SIGHUP), and holds for connections from then on; one that is no good is said, and the
//! one before it stays.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use deia::config::TlsFiles;
use deia_worker::secret_file;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{self, Stream};
use super::watch::{Command, Watch};

/// Largest file of certificates, and most certificates in it.
const MAX_CHAIN_BYTES: u64 = 1 << 20;
const MAX_CERTIFICATES: usize = 32;

/// What new connections are served with.
pub type Current = watch::Receiver<Arc<ServerConfig>>;

/// The certificate in force, and where it comes from.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Certificate {
    /// From the files of the configuration, relative ones below `home`; `None` where it names none.
    ///
    /// # Errors
    /// Names the file and what is wrong, never anything of what it holds.
    pub async fn load(files: &TlsFiles, home: &Path) -> Result<Option<Self>, String> {
        let (Some(chain), Some(key)) = (&files.cert_file, &files.key_file) else {
            return Ok(None);
        };
        let (chain, key) = (home.join(chain), home.join(key));
        let config = read(&chain, &key).await?;
        Ok(Some(Self {
            chain,
            key,
            current: watch::channel(config).0,
        }))
    }

    /// What new connections are served with.
    pub fn current(&self) -> Current {
        self.current.subscribe()
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As for [`Certificate::load`]; the certificate before stays.
    pub async fn renew(&self) -> Result<(), String> {
        let config = read(&self.chain, &self.key).await?;
        self.current.send_replace(config);
        Ok(())
    }
}

async fn read(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let shown = chain.display();
    let certificates = {
        let chain = chain.to_owned();
        tokio::task::spawn_blocking(move || certificates(&chain)).await
    };
    let certificates = certificates
        .map_err(|e| e.to_string())
        .and_then(|read| read)
        .map_err(|why| format!("http.tls.cert_file {shown}: {why}"))?;
    let in_key = |why: String| format!("http.tls.key_file {}: {why}", key.display());
    let text = secret_file::read(key.to_owned()).await;
    let text = text.map_err(|why| format!("http.tls.key_file: {why}"))?;
    // What the parser says may show a line of it.
    let key = PrivateKeyDer::from_pem_slice(text.expose().as_bytes())
        .map_err(|_| in_key("no private key in PEM form".to_owned()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates, key);
    let mut config =
        config.map_err(|e| in_key(format!("is not the key of {shown}, or of no use: {e}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    use std::io::Read as _;
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return Err("is not a regular file".to_owned());
    }
    let read = file.take(MAX_CHAIN_BYTES + 1).read_to_end(&mut pem);
    read.map_err(|e| e.to_string())?;
    if pem.len() as u64 > MAX_CHAIN_BYTES {
        return Err(format!("is longer than {MAX_CHAIN_BYTES} bytes"));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem)
        .take(MAX_CERTIFICATES)
        .collect();
    let chain = chain.map_err(|e| format!("no certificates in PEM form: {e}"))?;
    match chain.is_empty() {
        true => Err("there is no certificate in it".to_owned()),
        false => Ok(chain),
    }
}

/// The hand-shake; `None` where it does not come to an end within `time`, or there is no place for it any
/// more: nothing was asked yet, so that nothing is owed.
pub(super) async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    watch: &Watch,
    time: Duration,
) -> Option<TlsStream<TcpStream>> {
    let asked_to_go = poll_fn(|cx| {
        watch.task.register(cx.waker());
        match watch.command() {
            Command::Serve => Poll::Pending,
            Command::Yield | Command::Finish | Command::Leave | Command::Close => Poll::Ready(()),
        }
    });
    tokio::select! {
        shaken = TlsAcceptor::from(config).accept(stream) => shaken.ok(),
        () = tokio::time::sleep(time) => None,
        () = asked_to_go => None,
    }
}

impl Stream for TlsStream<TcpStream> {
    const CAN_BE_GIVEN: bool = false;

    fn into_socket(self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn has_bytes(&self) -> bool {
        connection::has_bytes(self.get_ref().0.as_fd())
    }
}
