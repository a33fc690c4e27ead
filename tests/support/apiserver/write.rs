//! Requests that change or remove an object.

use serde_json::Value;

use super::http::{Connection, Request};
use super::{Broken, Shared};

/// Makes or replaces the object that a request holds (server-side apply by its only manager), or
/// merges annotations into the one that is there.
pub(super) fn patch(
    connection: &mut Connection,
    request: &Request,
    plural: &str,
    shared: &Shared,
) -> Result<(), Broken> {
    let of_apply = request.header("content-type").is_some_and(|is| is.contains("apply-patch"));
    let sent: Value = serde_json::from_slice(&request.body).expect("an object");
    let mut state = shared.state();
    let before = state.store.get(plural, &request.namespace(), &request.name()).cloned();
    let object = match (of_apply, before) {
        (true, before) => {
            assert!(request.parameter("fieldManager").is_some(), "apply needs a manager");
            let mut object = sent;
            // Of another manager.
            if let Some(others) = before.map(|before| before["metadata"]["annotations"].clone()) {
                object["metadata"]["annotations"] = others;
            }
            object
        }
        (false, None) => {
            drop(state);
            return Ok(connection.status(404, "there is none", None)?);
        }
        (false, Some(mut object)) => {
            if object["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] {
                drop(state);
                return Ok(connection.status(409, "it has changed", None)?);
            }
            let annotations = sent["metadata"]["annotations"].as_object().expect("only these");
            for (key, value) in annotations {
                object["metadata"]["annotations"][key] = value.clone();
            }
            object
        }
    };
    state.store.put(plural, object);
    let object = state.store.get(plural, &request.namespace(), &request.name()).cloned();
    let object = object.expect("it was put");
    drop(state);
    shared.changed.notify_all();
    Ok(connection.written(&object)?)
}

/// Deletes an object.
pub(super) fn remove(
    connection: &mut Connection,
    request: &Request,
    plural: &str,
    shared: &Shared,
) -> Result<(), Broken> {
    let mut state = shared.state();
    let (namespace, name) = (request.namespace(), request.name());
    let Some(object) = state.store.get(plural, &namespace, &name).cloned() else {
        drop(state);
        return Ok(connection.status(404, "there is none", None)?);
    };
    state.store.delete(plural, &namespace, &name);
    drop(state);
    shared.changed.notify_all();
    Ok(connection.written(&object)?)
}
