//! A bus that does as another one does, but for what a test has it do instead.
use async_trait::async_trait;
use sexton_bus::{Bus, BusError, Outgoing, PublishError, Queue, Subscription};

/// What it does instead. Whatever is not written here goes to the bus behind it.
#[async_trait]
pub trait Instead: Send + Sync + 'static {
    /// The bus behind it.
    fn behind(&self) -> &dyn Bus;

    /// Instead of [`Bus::publish`].
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        self.behind().publish(messages).await
    }

    /// Instead of [`Bus::consume`].
    ///
    /// # Errors
    /// As [`Bus::consume`].
    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        self.behind().consume(queue, prefetch).await
    }
}

/// The bus that does this instead.
pub struct Double<T>(pub T);

#[async_trait]
impl<T: Instead> Bus for Double<T> {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        self.0.publish(messages).await
    }

    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        self.0.consume(queue, prefetch).await
    }

    async fn depth(&self, queue: &Queue) -> Result<u64, BusError> {
        self.0.behind().depth(queue).await
    }

    async fn healthy(&self) -> Result<(), BusError> {
        self.0.behind().healthy().await
    }
}
