//! Bodies that tell the connection's `Watch` how they get on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::watch::Watch;

/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client was too slow.
    #[error("the body did not come in time")]
    Late,
    /// The client broke off or its chunks are malformed.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

/// A request's body, timed.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Incoming,
    watch: Arc<Watch>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.watch.body_is_late() {
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if self.inner.is_end_stream() {
                    self.watch.body_ends();
                } else {
                    self.watch.body_moves(bytes as u64);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.watch.body_ends();
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.watch.reader.register(cx.waker());
                if self.watch.body_is_late() {
                    return Poll::Ready(Some(Err(BodyError::Late)));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.watch.body_is_dropped();
    }
}

/// An answer's body: when it is dropped, the request is over.
#[derive(Debug)]
pub(super) struct AnswerBody {
    inner: AxumBody,
    watch: Arc<Watch>,
}

impl AnswerBody {
    pub(super) fn new(inner: AxumBody, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.watch.request_ends();
    }
}
