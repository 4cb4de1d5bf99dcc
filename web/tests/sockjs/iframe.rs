//! The iframe page: where a browser cannot ask another domain, the client loads this page from there
//! into a hidden frame, and the client in the frame asks in its place. The page is always the same, so
//! that it is cached for as long as there are caches.

use cursormesh_web::config::SockJs;

use super::http::{Answer, Request};
use super::node::{node, node_with};

/// The page word for word; the address of the client's script is the only thing that is free.
fn page(script: &str) -> String {
    format!(
        "<!DOCTYPE html>\n\
         <html>\n\
         <head>\n  \
           <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n  \
           <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n  \
           <script src=\"{script}\"></script>\n  \
           <script>\n    \
             document.domain = document.domain;\n    \
             SockJS.bootstrap_iframe();\n  \
           </script>\n\
         </head>\n\
         <body>\n  \
           <h2>Don't panic!</h2>\n  \
           <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>\n\
         </body>\n\
         </html>"
    )
}

fn is_the_page(answer: &Answer) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.content_type(), "text/html;charset=UTF-8");
    assert_eq!(answer.body.trim(), page(&SockJs::default().client_url));
}

#[tokio::test]
async fn the_page_is_word_for_word_what_clients_expect() {
    is_the_page(&node().get("/echo/iframe.html").await);
}

#[tokio::test]
async fn every_version_of_its_name_is_the_same_page() {
    let node = node();
    for name in [
        "iframe-a.html",
        "iframe-.html",
        "iframe-0.1.2.html",
        "iframe-0.1.2abc-dirty.2144.html",
        "iframe-1_6_1.html",
        "iframe.html/",
    ] {
        for service in ["/echo", "/ws", "/v1/sockjs"] {
            is_the_page(&node.get(&format!("{service}/{name}")).await);
        }
    }
}

#[tokio::test]
async fn a_query_that_passes_caches_by_changes_nothing() {
    let node = node();
    for name in [
        "iframe.html?t=1234",
        "iframe-a.html?t=1234",
        "iframe-0.1.2abc-dirty.2144.html?t=qweqweq123",
    ] {
        is_the_page(&node.get(&format!("/echo/{name}")).await);
    }
}

#[tokio::test]
async fn other_names_do_not_exist() {
    let node = node();
    for name in [
        "iframe.htm",
        "iframe",
        "IFRAME.HTML",
        "IFRAME",
        "iframe.HTML",
        "iframe.xml",
        "iframe-/.html",
        "iframe-A.html",
        "iframe-%22.html",
        "an-iframe.html",
    ] {
        let answer = node.get(&format!("/echo/{name}")).await;
        assert_eq!(answer.status, 404, "{name}");
    }
}

#[tokio::test]
async fn the_page_is_cached_for_a_year() {
    let answer = node().get("/echo/iframe.html").await;
    let headers = &answer.headers;
    assert_eq!(
        headers.get("cache-control"),
        Some("public, max-age=31536000")
    );
    assert!(headers.get("expires").is_some());
    assert_eq!(headers.get("last-modified"), None);
    let tag = headers.get("etag").unwrap();
    assert!(
        tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'),
        "a strong tag: {tag}"
    );
}

#[tokio::test]
async fn who_has_the_page_is_not_sent_it_again() {
    let node = node();
    let first = node.get("/echo/iframe.html").await;
    let tag = first.headers.get("etag").unwrap();
    let second = node.get("/echo/iframe-1.6.1.html").await;
    assert_eq!(second.headers.get("etag"), Some(tag), "the tag stays");

    let again = Request::get("/echo/iframe.html").header("If-None-Match", tag);
    let again = node.fetch(again).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.headers.get("content-type"), None);

    let other = Request::get("/echo/iframe.html").header("If-None-Match", "\"another\"");
    is_the_page(&node.fetch(other).await);
}

#[tokio::test]
async fn the_script_is_the_one_that_is_configured() {
    let script = "/static/sockjs-1.6.1.min.js";
    let other = node_with(SockJs {
        client_url: script.into(),
        ..SockJs::default()
    });
    let answer = other.get("/echo/iframe.html").await;
    assert_eq!(answer.body.trim(), page(script));

    let usual = node().get("/echo/iframe.html").await;
    assert_ne!(
        answer.headers.get("etag"),
        usual.headers.get("etag"),
        "another page has another tag"
    );
}

#[tokio::test]
async fn by_itself_the_script_is_that_of_version_1() {
    assert_eq!(
        SockJs::default().client_url,
        "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js"
    );
}
