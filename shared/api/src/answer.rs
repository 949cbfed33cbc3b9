//! Reading what comes back: whatever is at the coordinator's address may never end.

/// Largest answer, in bytes: as large as the largest file of the archive.
pub(crate) const ANSWER_MAX_BYTES: usize = 256 << 20;

/// All that comes; nothing if that is more than so many bytes.
///
/// # Errors
/// If it breaks off.
pub(crate) async fn whole(mut response: reqwest::Response, most: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use sexton_model::Actor;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::whole;
    use crate::{Client, ClientError};

    /// Somebody at an address who says `begin`, and then blanks for ever.
    async fn endless(begin: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
            stream.write_all(begin.as_bytes()).await.unwrap();
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn what_has_no_end_is_not_read_to_its_end() {
        // Whoever comes first installs it; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = endless("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{").await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = http.get(url).send().await.unwrap();
        assert_eq!(whole(response, 100_000).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_said_with_the_reason() {
        for begin in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n<h",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            let client = Client::new(&endless(begin).await, None, None::<Actor>).unwrap();
            let error = client.health().await.unwrap_err();
            assert!(
                matches!(&error, ClientError::NoAnswer { reason, .. } if !reason.is_empty()),
                "{error:?}"
            );
        }
    }
}
