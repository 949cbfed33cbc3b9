//! Scopes on a served program: what whoever is limited to some does not see, and cannot do.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod served;
#[allow(dead_code, reason = "a site of machines is not needed here")]
mod site;
mod waiting;

use serde_json::{Value, json};
use served::{Served, deletion, detail, resource};

#[test]
fn what_is_of_another_scope_is_not_there() {
    let served = Served::start(false);
    served.register("mine", "tenants/acme/web");
    served.register("theirs", "tenants/other");
    let all = served.token("all", "approver", &[]);
    let acme = served.token("acme", "approver", &["tenants/acme"]);
    let (mine, theirs) = (served.delete(&all, "mine"), served.delete(&all, "theirs"));
    let ask = |method: &str, path: &str, body: &Value| served.with(&acme, method, path, body);
    let get = |path: &str| ask("GET", path, &Value::Null);
    let reason = json!({ "reason": "a test" });

    for path in ["/v1/deletions", "/v1/resources"] {
        let text = get(path).1.to_string();
        assert!(text.contains("vm/mine") && !text.contains("theirs"), "{path}: {text}");
        assert_eq!(get(&format!("{path}?scope=tenants/other")).1["items"], json!([]));
        // Not even where the next page begins is said by what is not shown.
        let text = get(&format!("{path}?limit=1")).1.to_string();
        assert!(text.contains("vm/mine") && !text.contains("theirs") && !text.contains(&theirs), "{text}");
    }
    assert_eq!(get(&format!("/v1/deletions/{mine}")).0, 200);
    assert_eq!(get("/v1/deletions/vm/mine").0, 200);
    assert_eq!(get("/v1/resources/vm/mine").0, 200);
    for (method, path, body) in [
        ("GET", format!("/v1/deletions/{theirs}"), &Value::Null),
        ("GET", "/v1/deletions/vm/theirs".to_owned(), &Value::Null),
        ("GET", "/v1/resources/vm/theirs".to_owned(), &Value::Null),
        ("POST", format!("/v1/deletions/{theirs}/cancel"), &reason),
        ("POST", format!("/v1/deletions/{theirs}/holds"), &reason),
        ("POST", format!("/v1/deletions/{theirs}/rescue"), &json!({ "evidence": "x" })),
        ("POST", "/v1/deletions".to_owned(), &deletion("theirs")),
        ("POST", "/v1/preview".to_owned(), &json!({ "resource": "vm/theirs", "on": "2035-01-01" })),
        ("POST", "/v1/surveys".to_owned(), &json!({ "resource": "vm/theirs", "on": "2035-01-01" })),
    ] {
        let (status, answer) = ask(method, &path, body);
        assert_eq!(status, 404, "{method} {path}: {answer}");
        // Word by word what is said of something that nobody knows.
        let nothing = path.replace("theirs", "nothing").replace(&theirs, "d-999");
        let body: Value = serde_json::from_str(&body.to_string().replace("theirs", "nothing")).unwrap();
        let (other, unknown) = ask(method, &nothing, &body);
        let same = detail(&unknown).replace("nothing", "theirs").replace("d-999", &theirs);
        assert_eq!((status, detail(&answer)), (other, same.as_str()), "{method} {path}");
    }
    let (_, record) = served.trusted("GET", &format!("/v1/deletions/{theirs}"), &Value::Null);
    assert_eq!((&record["status"], &record["holds"]), (&json!("live"), &json!([])), "nothing was done to it");

    // What has no scope takes a token that is limited to none.
    for (method, path, body) in [
        ("POST", "/v1/pauses", &reason),
        ("POST", "/v1/pauses", &json!({ "covers": { "scope": "tenants" }, "reason": "x" })),
        ("POST", "/v1/pauses", &json!({ "covers": { "scope": "tenants/acme2" }, "reason": "x" })),
        ("POST", "/v1/ceilings", &json!({ "everywhere": true, "to": "observe", "reason": "x" })),
        ("POST", "/v1/ceilings", &json!({ "scope": "tenants/other", "to": "observe", "reason": "x" })),
        ("GET", "/v1/audit", &Value::Null),
        ("GET", "/v1/audit/access", &Value::Null),
        ("GET", "/v1/archived", &Value::Null),
    ] {
        let (status, answer) = ask(method, path, body);
        assert!(
            status == 403 && detail(&answer).contains("limited to"),
            "{method} {path}: {status} {answer}"
        );
    }
    let covers = |scope: &str| json!({ "covers": { "scope": scope }, "reason": "x" });
    assert_eq!(ask("POST", "/v1/pauses", &covers("tenants/acme/web")).0, 201);
    for scope in ["tenants", "tenants/other"] {
        assert_eq!(served.trusted("POST", "/v1/pauses", &covers(scope)).0, 201);
    }
    let pauses = get("/v1/pauses").1;
    let shown: Vec<_> = pauses.as_array().unwrap().iter().map(|pause| pause["id"].clone()).collect();
    assert_eq!(shown, [json!(1), json!(2)], "its own, and the one around it: {pauses}");
    assert_eq!(get("/v1/health").1["pauses"].as_array().unwrap().len(), 2);
    let stopped = |n: u8| get(&format!("/v1/pauses/{n}/stopped")).0;
    assert_eq!([stopped(1), stopped(2), stopped(3), stopped(4)], [200, 403, 404, 404]);
    let resume = |n: u8| ask("DELETE", &format!("/v1/pauses/{n}"), &Value::Null).0;
    assert_eq!([resume(1), resume(2), resume(3), resume(4)], [200, 403, 404, 404]);

    let theirs = served.refusals().into_iter().filter(|(by, ..)| by == "acme");
    assert_eq!(
        theirs.count(),
        9 + 8 + 2 + 2,
        "what was of another scope is written down, and what is not there is not"
    );
}

/// More than any request reads of others, and all of them before what is its own.
#[test]
fn whoever_has_one_scope_of_many_lists_what_is_its_own() {
    let served = Served::start(false);
    for round in ["a", "b", "c", "d", "e", "f"] {
        let theirs: Vec<_> =
            (0..2_700).map(|n| resource(&format!("{round}{n}"), &format!("tenants/t{n}"))).collect();
        let (status, answer) =
            served.trusted("POST", "/v1/resources", &json!({ "resources": theirs, "whole": true }));
        assert_eq!(status, 200, "{answer}");
        assert!(answer["results"].as_array().unwrap().iter().all(Value::is_null), "{answer}");
    }
    for name in ["y1", "y2", "y3"] {
        served.register(name, "tenants/t/web");
    }
    let (all, acme) = (served.token("all", "approver", &[]), served.token("acme", "viewer", &["tenants/t"]));
    let own = [served.delete(&all, "y1"), served.delete(&all, "y2")];
    served.delete(&all, "b8");
    let pages = |path: &str, named: &dyn Fn(&Value) -> String| {
        let (mut seen, mut after): (Vec<Vec<String>>, _) = (Vec::new(), String::new());
        loop {
            let (status, page) = served.with(&acme, "GET", &format!("{path}?limit=2{after}"), &Value::Null);
            assert_eq!(status, 200, "{page}");
            seen.push(page["items"].as_array().unwrap().iter().map(named).collect());
            let Some(next) = page["next"].as_str() else { return seen };
            assert_eq!(seen.last().unwrap().last().map(String::as_str), Some(next));
            after = format!("&after={next}");
        }
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let resources = pages("/v1/resources", &|line| text(&line["resource"]["id"]));
    assert_eq!(resources, [vec!["vm/y1", "vm/y2"], vec!["vm/y3"]]);
    let deletions = pages("/v1/deletions", &|line| text(&line["id"]));
    assert_eq!(deletions, [[own[1].as_str(), own[0].as_str()]]);
}

#[test]
fn nothing_is_taken_into_ones_scope_nor_out_of_protection() {
    let served = Served::start(false);
    served.register("theirs", "tenants/other");
    let secret = served.token("acme", "requester", &["tenants/acme"]);
    let register = |resource: Value| {
        let (status, answer) = served.with(
            &secret,
            "POST",
            "/v1/resources",
            &json!({ "resources": [resource], "whole": false }),
        );
        assert_eq!(status, 200, "{answer}");
        answer["results"][0].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(register(resource("mine", "tenants/acme")), "");
    let outside = "is outside of what acme is limited to: tenants/acme";
    assert!(register(resource("new", "tenants/other")).contains(outside));
    assert!(register(resource("theirs", "tenants/acme")).contains(outside), "another's machine, moved");
    assert!(register(resource("mine", "tenants/other")).contains(outside), "one's own, moved away");
    let mut protected = resource("mine", "tenants/acme");
    protected["protected"] = json!(true);
    assert_eq!(register(protected), "", "whoever registers it may protect it");
    let unprotect = register(resource("mine", "tenants/acme"));
    assert!(unprotect.contains("taking the protection off a resource needs the role admin"), "{unprotect}");
    let (_, theirs) = served.trusted("GET", "/v1/resources/vm/theirs", &Value::Null);
    assert_eq!(theirs["resource"]["scope"], "tenants/other");
    let refusals = served.refusals();
    assert_eq!(refusals.len(), 4, "also what is refused line by line is written down: {refusals:?}");
    assert!(refusals[1].2.starts_with("1 refused: vm/theirs: tenants/other is outside"), "{refusals:?}");
    let (_, mine) = served.trusted("GET", "/v1/resources/vm/mine", &Value::Null);
    assert_eq!(mine["resource"]["protected"], true);
}

/// There other ceilings, budgets and pauses decide: whoever asks for deletions does not choose by which.
#[test]
fn nothing_leaves_its_scope_or_its_group_without_an_approver() {
    let served = Served::start(false);
    let token = |name: &str, role: &str| served.token(name, role, &["acme"]);
    let (ci, boss) = (token("ci", "requester"), token("boss", "approver"));
    let of = |name: &str, scope: &str, groups: &Value| {
        let mut resource = resource(name, scope);
        resource["groups"] = groups.clone();
        resource
    };
    let (both, one, none) = (json!(["db-main", "rack-1"]), json!(["db-main"]), json!([]));
    let register = |secret: &str, resources: &[Value], whole: bool| -> Vec<String> {
        let body = json!({ "resources": resources, "whole": whole });
        let (status, answer) = served.with(secret, "POST", "/v1/resources", &body);
        assert_eq!(status, 200, "{answer}");
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|why| why.as_str().unwrap_or_default().to_owned()).collect()
    };
    let there = |name: &str| {
        let (_, found) = served.trusted("GET", &format!("/v1/resources/vm/{name}"), &Value::Null);
        (found["resource"]["scope"].clone(), found["resource"]["groups"].clone())
    };
    let anew = [of("db01", "acme/prod", &both), of("db02", "acme/prod", &none)];
    assert_eq!(register(&ci, &anew, true), ["", ""], "whoever registers it first says where");

    let moved = "scope: moving a resource to another scope needs the role approver, and ci is requester";
    let taken_out =
        "groups: taking a resource out of a redundancy group needs the role approver, and ci is requester";
    // A whole inventory: which lines were refused is told, and the others go through.
    let inventory = [
        of("db01", "acme/lab", &both),
        of("db02", "acme/prod", &one),
        of("db01", "acme/prod/new", &both),
        of("db01", "acme/prod", &one),
        of("db01", "acme/prod", &none),
        of("db03", "acme/lab", &none),
    ];
    let expected = [moved, "", moved, taken_out, taken_out, ""];
    assert_eq!(register(&ci, &inventory, false), expected);
    assert_eq!(there("db01"), (json!("acme/prod"), both.clone()));
    assert_eq!(there("db02"), (json!("acme/prod"), one.clone()), "to one more group takes nobody");
    assert_eq!(there("db03").0, json!("acme/lab"));
    let refusals = served.refusals();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    let (by, _, why) = &refusals[0];
    assert_eq!((by.as_str(), why.as_str()), ("ci", format!("4 refused: vm/db01: {moved}").as_str()));

    // A record changes nothing about groups, and is decided about where it was made.
    served.delete(&ci, "db01");
    assert_eq!(register(&ci, &[of("db01", "acme/prod", &none)], true), [taken_out]);
    let stays = register(&boss, &[of("db01", "acme/lab", &both)], true);
    assert!(stays[0].contains("vm/db01 stays in acme/prod as long as it has a live"), "{stays:?}");
    assert!(served.refusals().iter().any(|(by, ..)| by == "boss"), "it is a belt, and written down");
    let approved = [of("db01", "acme/prod", &one), of("db02", "acme/lab", &one)];
    assert_eq!(register(&boss, &approved, true), ["", ""]);
    assert_eq!(there("db01"), (json!("acme/prod"), one.clone()));
    assert_eq!(there("db02"), (json!("acme/lab"), one));
}

#[test]
fn another_one_under_a_name_that_is_taken_is_refused_and_that_is_written_down() {
    let served = Served::start(false);
    served.register("a", "tenants/acme");
    let secret = served.token("ci", "requester", &[]);
    let mut another = resource("a", "tenants/acme");
    another["identity"] = json!({ "uuid": "another" });
    let register = |dry_run: bool| {
        let body = json!({ "resources": [another], "whole": true, "dry_run": dry_run });
        let (status, answer) = served.with(&secret, "POST", "/v1/resources", &body);
        let why = answer["results"][0].as_str().unwrap_or_default();
        assert!(status == 200 && why.contains("is registered with another identity"), "{answer}");
        served.refusals()
    };
    assert!(register(true).is_empty(), "it was only asked");
    let refusals = register(false);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].2.starts_with("1 refused: vm/a is registered with another identity"), "{refusals:?}");
}

/// What names what it is about in its body, or is shown sifted.
#[test]
fn no_route_reaches_into_another_scope() {
    let served = Served::start(false);
    served.register("mine", "tenants/acme/web");
    served.register("theirs", "tenants/other");
    let all = served.token("all", "approver", &[]);
    let acme = served.token("acme", "admin", &["tenants/acme"]);
    let (mine, theirs) = (served.delete(&all, "mine"), served.delete(&all, "theirs"));
    // It is called as some paths end.
    served.register("receipt", "tenants/other");
    served.delete(&all, "receipt");
    let (status, shown) = served.with(&all, "GET", "/v1/deletions/vm/receipt", &Value::Null);
    assert_eq!((status, &shown["resource"]["id"]), (200, &json!("vm/receipt")), "{shown}");
    let ask = |method: &str, path: &str, body: &Value| served.with(&acme, method, path, body);
    let reason = json!({ "reason": "a test" });
    let shot = |deletion: &str| json!({ "deletion": deletion, "stage": "announce", "belt": "ceiling", "reason": "x" });
    let census = |scope: &str| {
        json!({
            "kind": "vm", "scope": scope, "credential": "census-ro", "total": 1, "taken_at": chrono::Utc::now(),
            "listed": [{ "id": "vm/theirs", "scope": scope }],
        })
    };
    let cancel = |scope: &str| json!({ "scope": scope, "reason": "a test" });
    let hold = json!({ "reason": "a lawsuit" });
    assert_eq!(served.trusted("POST", "/v1/resources/vm/theirs/holds", &hold).0, 201);
    assert_eq!(served.trusted("POST", &format!("/v1/deletions/{theirs}/holds"), &reason).0, 200);
    let of_theirs = served.trusted("GET", &format!("/v1/deletions/{theirs}"), &Value::Null).1;
    let held = of_theirs["holds"][0]["id"].as_i64().unwrap();
    let (status, given) = served.trusted("POST", "/v1/overrides", &shot(&theirs));
    assert_eq!((status, &given["id"]), (201, &json!(1)), "{given}");
    let hidden = [
        ("POST", "/v1/overrides".to_owned(), shot(&theirs)),
        ("POST", "/v1/resources/vm/theirs/holds".to_owned(), hold.clone()),
        ("DELETE", "/v1/resources/vm/theirs/holds?origin=root".to_owned(), Value::Null),
        ("PUT", "/v1/resources/vm/theirs/priority".to_owned(), json!({ "priority": 7 })),
        ("DELETE", format!("/v1/deletions/{theirs}/holds/{held}"), Value::Null),
        ("GET", format!("/v1/deletions/{theirs}/receipt"), Value::Null),
        ("GET", "/v1/deletions/vm/receipt".to_owned(), Value::Null),
        ("GET", format!("/v1/audit/chains/{theirs}"), Value::Null),
        ("DELETE", "/v1/overrides/1".to_owned(), Value::Null),
    ];
    for (method, path, body) in &hidden {
        let (status, answer) = ask(method, path, body);
        assert_eq!(status, 404, "{method} {path}: {answer}");
    }
    let outside = [
        ("POST", "/v1/censuses".to_owned(), census("tenants/other")),
        ("POST", "/v1/censuses".to_owned(), census("tenants")),
        ("POST", "/v1/censuses/taken".to_owned(), json!({ "kind": "vm", "scope": "tenants/other" })),
        ("POST", "/v1/censuses/taken".to_owned(), json!({ "kind": "vm", "scope": "tenants" })),
        ("POST", "/v1/cancellations".to_owned(), cancel("tenants/other")),
        ("POST", "/v1/cancellations".to_owned(), cancel("tenants")),
        ("GET", "/v1/ceilings/stopped?scope=tenants/other&to=announce".to_owned(), Value::Null),
        ("GET", "/v1/ceilings/stopped?everywhere=true&to=announce".to_owned(), Value::Null),
    ];
    for (method, path, body) in &outside {
        let (status, answer) = ask(method, path, body);
        assert!(
            status == 403 && detail(&answer).contains("limited to"),
            "{method} {path}: {status} {answer}"
        );
    }
    let refusals = served.refusals().into_iter().filter(|(by, ..)| by == "acme").count();
    assert_eq!(refusals, hidden.len() + outside.len(), "each is written down: {:#?}", served.refusals());
    let (_, record) = served.trusted("GET", &format!("/v1/deletions/{theirs}"), &Value::Null);
    assert_eq!((&record["status"], &record["holds"][0]["id"]), (&json!("live"), &json!(held)), "{record}");
    let resource = served.trusted("GET", "/v1/resources/vm/theirs", &Value::Null).1;
    assert_eq!(
        (resource["holds"].as_array().unwrap().len(), &resource["resource"]["priority"]),
        (1, &json!(100))
    );
    let good = |list: &Value| -> Vec<i64> {
        list.as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(good(&served.trusted("GET", "/v1/overrides", &Value::Null).1), [1], "it is not taken back");
    assert_eq!(ask("GET", "/v1/overrides", &Value::Null), (200, json!([])), "nor shown");
    // One that there never was answers word by word the same.
    let text = |id: u8| detail(&ask("DELETE", &format!("/v1/overrides/{id}"), &Value::Null).1).to_owned();
    assert_eq!(text(1), text(9).replace('9', "1"));

    // Within its own each of them is taken.
    assert_eq!(ask("POST", "/v1/overrides", &shot(&mine)).0, 201);
    assert_eq!(good(&ask("GET", "/v1/overrides", &Value::Null).1), [2]);
    assert_eq!(good(&served.trusted("GET", "/v1/overrides", &Value::Null).1), [1, 2]);
    assert_eq!(ask("DELETE", "/v1/overrides/2", &Value::Null).0, 200);
    assert_eq!(good(&served.trusted("GET", "/v1/overrides", &Value::Null).1), [1], "its own is taken back");
    assert_eq!(ask("POST", "/v1/resources/vm/mine/holds", &hold).0, 201);
    assert_eq!(ask("DELETE", "/v1/resources/vm/mine/holds?origin=acme", &Value::Null).0, 200);
    assert_eq!(ask("PUT", "/v1/resources/vm/mine/priority", &json!({ "priority": 7 })).0, 200);
    let (status, cancelled) = ask("POST", "/v1/cancellations", &cancel("tenants/acme"));
    assert_eq!((status, cancelled["items"].as_array().unwrap().len()), (200, 1), "{cancelled}");
}

/// Status and answer of a request under a key.
fn under(served: &Served, secret: &str, key: &str, path: &str) -> (u16, Value) {
    let headers = format!("authorization: Bearer {secret}\r\nidempotency-key: {key}\r\n");
    served.ask(&headers, "DELETE", path, &Value::Null)
}

/// By the time that it is sent again, what it was about is gone; for anybody else, and for any other request, it is not there.
#[test]
fn what_is_gone_by_a_request_is_answered_as_then() {
    let served = Served::start(false);
    served.register("mine", "tenants/acme/web");
    let token = |name: &str, role: &str| served.token(name, role, &["tenants/acme"]);
    let (ci, acme, boss) = (token("ci", "requester"), token("acme", "operator"), token("boss", "approver"));
    let other = token("other", "operator");
    let mine = served.delete(&ci, "mine");
    let pause = json!({ "covers": { "scope": "tenants/acme" }, "reason": "a test" });
    assert_eq!(served.with(&acme, "POST", "/v1/pauses", &pause).0, 201);
    let shot = json!({ "deletion": mine, "stage": "announce", "belt": "ceiling", "reason": "a test" });
    assert_eq!(served.with(&boss, "POST", "/v1/overrides", &shot).0, 201);
    let held =
        served.with(&ci, "POST", &format!("/v1/deletions/{mine}/holds"), &json!({ "reason": "a test" }));
    assert_eq!(held.0, 200, "{held:?}");
    let record = served.with(&ci, "GET", &format!("/v1/deletions/{mine}"), &Value::Null).1;
    let hold = format!("/v1/deletions/{mine}/holds/{}", record["holds"][0]["id"]);
    // Whose hold it was nobody knows once it is released, so then it takes a higher role.
    for (secret, path, refused) in
        [(&acme, "/v1/pauses/1", 404), (&boss, "/v1/overrides/1", 404), (&ci, hold.as_str(), 403)]
    {
        let first = under(&served, secret, "k", path);
        assert_eq!(first.0, 200, "{path}: {first:?}");
        assert_eq!(under(&served, secret, "k", path), first);
        let without = served.with(secret, "DELETE", path, &Value::Null);
        assert_eq!(without.0, refused, "{path}: {without:?}");
        assert_eq!(under(&served, secret, "k2", path), without, "{path}");
        let elses = under(&served, &other, &path.replace('/', "."), path);
        assert!(elses.0 > 400, "{path}: {elses:?}");
    }
    let taken = under(&served, &acme, "k", "/v1/pauses/9");
    assert_eq!(taken.0, 404, "the key is another request's, and there is no such pause: {taken:?}");
}

#[test]
fn what_is_gone_by_a_request_whose_answer_was_lost_is_answered_by_what_it_did() {
    let mut served = Served::start(false);
    let acme = served.token("acme", "operator", &["tenants/acme"]);
    let pause = json!({ "covers": { "scope": "tenants/acme" }, "reason": "a test" });
    assert_eq!(served.with(&acme, "POST", "/v1/pauses", &pause).0, 201);
    site::sql(served.folder.path(), site::LOSE);
    let first = under(&served, &acme, "k", "/v1/pauses/1");
    assert_eq!(first.0, 200, "{first:?}");
    let busy = under(&served, &acme, "k", "/v1/pauses/1");
    assert_eq!((busy.0, &busy.1["field"]), (409, &json!("Idempotency-Key")), "{busy:?}");
    served.restart();
    assert_eq!(under(&served, &acme, "k", "/v1/pauses/1"), first);
    assert_eq!(served.with(&acme, "DELETE", "/v1/pauses/1", &Value::Null).0, 404);
}

#[test]
fn broken_glass_is_shown_to_whoever_sees_the_record() {
    let served = Served::start(false);
    served.register("mine", "tenants/acme/web");
    served.register("theirs", "tenants/other");
    let token = |name: &str, scopes: &[&str]| served.token(name, "viewer", scopes);
    let (all, acme, other) =
        (token("all", &[]), token("acme", &["tenants/acme"]), token("other", &["tenants/other"]));
    for name in ["mine", "theirs"] {
        let (status, made) = served.trusted("POST", "/v1/deletions", &deletion(name));
        assert_eq!(status, 201, "{made}");
        let shot = json!({
            "deletion": made["deletion"], "stage": "announce", "belt": "ceiling", "reason": "fire", "break_glass": true,
        });
        let (status, given) = served.trusted("POST", "/v1/overrides", &shot);
        assert_eq!(status, 201, "{given}");
    }
    let shown = |secret: &str| -> Vec<i64> {
        let (status, health) = served.with(secret, "GET", "/v1/health", &Value::Null);
        assert_eq!(status, 200, "{health}");
        let all = health["broken_glass"].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| one["id"].as_i64().unwrap()).collect()
    };
    assert_eq!((shown(&all), shown(&acme), shown(&other)), (vec![1, 2], vec![1], vec![2]));
}

#[test]
fn what_was_surveyed_of_another_scope_is_not_there() {
    let served = Served::start(false);
    served.register("mine", "tenants/acme/web");
    served.register("theirs", "tenants/other");
    let acme = served.token("acme", "requester", &["tenants/acme"]);
    let begin = |name: &str| {
        let body = json!({ "resource": format!("vm/{name}"), "on": "2035-01-01", "within_secs": 1 });
        let (status, survey) = served.trusted("POST", "/v1/surveys", &body);
        assert_eq!(status, 201, "{survey}");
        survey["survey"].to_string()
    };
    let (mine, theirs) = (begin("mine"), begin("theirs"));
    let get = |id: &str| served.with(&acme, "GET", &format!("/v1/surveys/{id}"), &Value::Null);
    assert_eq!(get(&mine).0, 200);
    let (status, answer) = get(&theirs);
    // Word by word what is said of one that there never was.
    let (other, unknown) = get("999999");
    assert_eq!((status, detail(&answer)), (404, detail(&unknown).replace("999999", &theirs).as_str()));
    assert_eq!(other, 404);
}
