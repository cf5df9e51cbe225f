//! An external extension on AWS's own library for them.

use lambda_extension::{
    service_fn, Error, Extension, LambdaEvent, LambdaTelemetry, LambdaTelemetryRecord, NextEvent, SharedService,
};

async fn events(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(event) => println!("watcher got INVOKE {}", event.request_id),
        NextEvent::Shutdown(event) => println!("watcher got SHUTDOWN {}", event.shutdown_reason),
    }
    Ok(())
}

async fn telemetry(events: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for event in events {
        match event.record {
            LambdaTelemetryRecord::Function(line) => println!("watcher heard {}", line),
            LambdaTelemetryRecord::PlatformReport { request_id, status, .. } => {
                println!("watcher heard a report of {} {:?}", request_id, status)
            }
            _ => (),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    Extension::new()
        .with_events_processor(service_fn(events))
        .with_telemetry_types(&["platform", "function"])
        .with_telemetry_processor(SharedService::new(service_fn(telemetry)))
        .run()
        .await
}
