//! Tokens, and the chain that they and refusals are written down in.
use sexton_ledger::{Ledger, Revocation};
use sexton_model::access::{
    CannotIssue, DAY_S, Extent, NewToken, NotGood, Refusal, Role, TOKENS_MAX, Token, token_hash, token_text,
};
use sexton_model::attest::Head;
use sexton_model::audit::Broken;

use super::Fixture;
use super::attested::{keep_all, kept};
use super::stage::{Stagehand, actor, options};

fn new(name: &str) -> NewToken {
    let scopes = Extent::Scopes(["tenants/acme".parse().unwrap()].into());
    NewToken {
        name: actor(name),
        role: Role::Operator,
        extent: scopes,
        good_for_s: 2 * DAY_S,
        by: actor("root"),
    }
}

fn secret(n: u8) -> String {
    token_text(&[n; 32])
}

async fn issue(ledger: &dyn Ledger, name: &str, n: u8) -> Result<Token, CannotIssue> {
    ledger.issue_token(new(name), token_hash(&secret(n))).await.unwrap()
}

async fn events(ledger: &dyn Ledger) -> Vec<(i64, String, String)> {
    let events = ledger.access_events(0, 100).await.unwrap();
    events.into_iter().map(|(seq, event)| (seq, event.what, event.by)).collect()
}

fn told(events: &[(i64, &str, &str)]) -> Vec<(i64, String, String)> {
    events.iter().map(|(seq, what, by)| (*seq, (*what).to_owned(), (*by).to_owned())).collect()
}

pub async fn a_token_is_issued_once_and_revoked_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    let token = issue(ledger, "ci", 1).await.unwrap();
    assert_eq!((token.role, &token.created_by), (Role::Operator, &actor("root")));
    assert_eq!(token.expires_at.ms_since(token.created_at), 2 * 86_400_000, "real days, in a rehearsal, too");
    assert_eq!(issue(ledger, "ci", 2).await, Err(CannotIssue::Taken(actor("ci"))));
    let unfit = NewToken { good_for_s: 0, ..new("x") };
    assert_eq!(ledger.issue_token(unfit, token_hash("x")).await.unwrap(), Err(CannotIssue::Lifetime(0)));
    let Revocation::Done(revoked) = ledger.revoke_token(&actor("ci"), &actor("boss")).await.unwrap() else {
        panic!("it is not revoked");
    };
    assert_eq!(revoked.revoked.as_ref().map(|r| &r.by), Some(&actor("boss")));
    let again = ledger.revoke_token(&actor("ci"), &actor("root")).await.unwrap();
    assert_eq!(again, Revocation::Before(revoked.clone()));
    assert_eq!(ledger.revoke_token(&actor("nobody"), &actor("root")).await.unwrap(), Revocation::Unknown);
    assert_eq!(issue(ledger, "ci", 3).await, Err(CannotIssue::Taken(actor("ci"))), "a name is given once");
    assert_eq!(events(ledger).await, told(&[(1, "token_issued", "root"), (2, "token_revoked", "boss")]));
    drop(on);
    let again = fixture.open(options()).await;
    assert_eq!(again.token(&token_hash(&secret(1))).await.unwrap(), Some(revoked.clone()));
    assert_eq!(again.token_of(&actor("ci")).await.unwrap(), Some(revoked), "it was one");
}

pub async fn a_token_is_found_by_its_hash_and_kept_without_its_secret(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    for (n, name) in [(2, "b"), (1, "a"), (3, "c")] {
        issue(ledger, name, n).await.unwrap();
    }
    let found = ledger.token(&token_hash(&secret(1))).await.unwrap().unwrap();
    assert_eq!(found.name, actor("a"));
    assert!(found.bearer(on.now().await).is_ok());
    assert_eq!(
        found.bearer(found.expires_at),
        Err(NotGood::Expired { name: found.name.clone(), at: found.expires_at })
    );
    assert_eq!(ledger.token(&token_hash("sxt_")).await.unwrap(), None);
    assert_eq!(ledger.token_of(&actor("a")).await.unwrap(), Some(found));
    assert_eq!(ledger.token_of(&actor("d")).await.unwrap(), None);
    let names = |tokens: Vec<Token>| tokens.into_iter().map(|t| t.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(ledger.tokens(None, 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(ledger.tokens(Some(&actor("b")), 2).await.unwrap()), ["c"]);
    let inside = "SELECT count(*) FROM tokens WHERE body LIKE '%sxt_0%'";
    assert_eq!(fixture.count(inside).await, 0);
    assert_eq!(fixture.count("SELECT count(*) FROM ledger_audit WHERE body LIKE '%sxt_0%'").await, 0);
    assert!(fixture.attempt("DELETE FROM tokens").await.is_err(), "a token is never removed");
}

pub async fn only_so_many_tokens_are_good(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    for n in 0..TOKENS_MAX {
        let name = format!("t{n}");
        ledger.issue_token(new(&name), token_hash(&name)).await.unwrap().unwrap();
    }
    assert_eq!(issue(ledger, "more", 1).await, Err(CannotIssue::TooMany));
    ledger.revoke_token(&actor("t7"), &actor("root")).await.unwrap();
    issue(ledger, "more", 1).await.unwrap();
}

pub async fn refusals_are_written_down_in_a_chain_that_is_checked_and_signed(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    assert_eq!(ledger.verify_chains(None, 10).await.unwrap().checked, 1, "there is nothing but the pauses");
    let refusal = Refusal::new("POST /v1/pauses", "a reason", 403, 2);
    for _ in 0..2 {
        ledger.write_refusal("ci", refusal.clone()).await.unwrap();
    }
    assert_eq!(events(ledger).await, told(&[(1, "refused", "ci"), (2, "refused", "ci")]));
    assert_eq!(ledger.last_access_event().await.unwrap(), 2);
    let event = ledger.access_events(1, 1).await.unwrap().remove(0).1;
    assert_eq!(serde_json::from_value::<Refusal>(event.body).unwrap(), refusal);
    keep_all(ledger).await;
    let heads: Vec<Head> = kept(ledger).await.1.into_heads().collect();
    assert!(heads.iter().any(|head| head.chain == "access" && head.seq == 2), "{heads:?}");
    let page = ledger.verify_chains(None, 10).await.unwrap();
    assert_eq!((page.checked, page.broken), (2, vec![]));
    fixture.change_ledger_event("access", 1).await;
    let broken = ledger.verify_chains(None, 10).await.unwrap().broken;
    assert_eq!(broken, [("access".to_owned(), Broken::Changed { seq: 1 })]);
    // Whoever takes all of it away, and its end back, is found by what was signed.
    fixture.execute("UPDATE access SET seq = 0").await;
    assert_eq!(ledger.grown(None).await.unwrap().shrunk.len(), 1);
}
