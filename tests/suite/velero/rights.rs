//! The least Role is enough for every command, and what is missing is named.
//!
//! As a service account with a token of its own, against the API server's real RBAC.

use serde_json::json;

use super::installation::{Installation, installation};

/// The Role, as the manifests have it.
const ROLE: &str = include_str!("../../fixtures/velero/role.yaml");

fn account(velero: &mut Installation<'_>) {
    let namespace = velero.namespace.clone();
    let core = format!("/api/v1/namespaces/{namespace}");
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "careen" },
    });
    velero
        .server
        .post(&format!("{core}/serviceaccounts"), &account)
        .unwrap();
    velero
        .server
        .apply(&format!("{rbac}/roles"), "careen", ROLE)
        .unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "careen" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "careen" },
        "subjects": [{ "kind": "ServiceAccount", "name": "careen", "namespace": namespace }],
    });
    velero
        .server
        .post(&format!("{rbac}/rolebindings"), &binding)
        .unwrap();
    velero.kubeconfig = velero.server.account(&namespace, "careen");
}

/// Goal: the Role suffices; method: every command as a service account that has nothing else.
#[test]
fn the_role_is_enough_for_every_command() {
    let Some(mut velero) = installation() else {
        return;
    };
    let name = velero.repository("shop");
    account(&mut velero);
    for words in [
        &["list"][..],
        &["takeover", "--apply"],
        &["run", "--all", "--mode", "quick"],
        &["explain", "shop"],
        &["giveback", "--apply"],
    ] {
        let answer = velero.careen(words);
        assert_eq!(answer.exit, 0, "{words:?}: {}", answer.text);
        assert!(
            !answer.text.contains("forbidden"),
            "{words:?}: {}",
            answer.text
        );
    }
    assert_eq!(velero.get(&name)["spec"]["maintenanceFrequency"], "1h0m0s");
}

/// Goal: what the Role does not give is said with verb and kind; method: an account without a Role.
#[test]
fn a_missing_right_is_named() {
    let Some(mut velero) = installation() else {
        return;
    };
    velero.record("shop", "default");
    account(&mut velero);
    let roles = format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
        velero.namespace
    );
    velero.server.delete(&roles, "careen").unwrap();
    let answer = velero.careen(&["list"]);
    assert_eq!(answer.exit, 50, "{}", answer.text);
    let error = answer.error();
    assert_eq!(error["code"], "kubernetes-forbidden");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("list backupstoragelocations"), "{message}");
}
