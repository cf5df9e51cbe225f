// A function by AWS's own Rust library, for the tests of the OS-only runtimes.
use lambda_runtime::{run, service_fn, Error, LambdaEvent};
use serde_json::{json, Value};
use std::sync::atomic::{AtomicU64, Ordering};

static EVENTS: AtomicU64 = AtomicU64::new(0);

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (asked, context) = event.into_parts();
    if asked["fail"] == "error" {
        return Err("as asked".into());
    }
    Ok(json!({
        "events": EVENTS.fetch_add(1, Ordering::Relaxed) + 1,
        "number": asked["number"],
        "id": context.request_id,
        "arn": context.invoked_function_arn,
        "name": context.env_config.function_name,
    }))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    run(service_fn(handle)).await
}
