// A Node client of the public gRPC API: @grpc/grpc-js and the .proto files as they are, no generated code. It does what
// it is told to on the command line and prints what it saw as JSON, for tests/e2e/test_grpc_clients.py.
//
//   node client.js PROTO_FOLDER 127.0.0.1:9090 FUNCTION EVENTS
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [folder, target, functionName, events] = process.argv.slice(2);
const files = ["functions", "invocations", "queue", "usage"].map((name) => `lambent/v1/${name}.proto`);
const loaded = loader.loadSync(files, { includeDirs: [path.resolve(folder)], enums: String, longs: Number, oneofs: true });
const api = grpc.loadPackageDefinition(loaded).lambent.v1;
const credentials = grpc.credentials.createInsecure();
const invocations = new api.InvocationService(target, credentials);

/** A unary RPC as a promise of its response and trailing metadata. */
function call(client, method, request, options = {}) {
  return new Promise((resolve, reject) => {
    let trailing;
    const made = client[method](request, new grpc.Metadata(), options, (failure, response) => {
      if (failure) reject(failure);
      else setImmediate(() => resolve({ response, trailing }));
    });
    made.on("status", (status) => { trailing = status.metadata; });
  });
}

async function failed(request, options) {
  try {
    await call(invocations, "invoke", request, options);
  } catch (failure) {
    return failure;
  }
  throw new Error("it did not fail");
}

function stream(payload) {
  return new Promise((resolve, reject) => {
    let chunks = 0, complete;
    const answers = invocations.invokeStream({ functionName, payload });
    answers.on("data", (message) => {
      if (message.event === "complete") complete = message.complete.executedVersion;
      else chunks += 1;
    });
    answers.on("error", reject);
    answers.on("end", () => resolve({ chunks, complete }));
  });
}

function publish(count) {
  return new Promise((resolve, reject) => {
    const accepted = new Set();
    const both = invocations.publishEvents();
    both.on("data", ({ results }) => {
      for (const result of results) {
        if (result.outcome !== "accepted") reject(new Error(result.error.message));
        accepted.add(result.id);
      }
    });
    both.on("error", reject);
    both.on("end", () => resolve(accepted.size));
    for (let number = 0; number < count; number++) {
      both.write({ events: [{ id: String(number), functionName }] });
    }
    both.end();
  });
}

async function main() {
  const seen = {};
  const { response, trailing } = await call(invocations, "invoke", {
    functionName, payload: Buffer.from(JSON.stringify({ from: "Node" })),
  });
  seen.payload = response.payload.toString();
  seen["request id"] = trailing.get("x-amzn-requestid")[0] === response.requestId;
  const refused = await failed({ functionName: "no-such-function" }, {});
  seen.code = grpc.status[refused.code];
  // google.rpc.Status comes as bytes; AWS's name is in them.
  seen.reason = refused.metadata.get("grpc-status-details-bin")[0].includes("ResourceNotFoundException");
  const late = await failed({ functionName, payload: Buffer.from('{"sleep":1}') }, { deadline: Date.now() + 200 });
  seen.deadline = grpc.status[late.code];
  const { chunks, complete } = await stream(Buffer.from(JSON.stringify({ text: "x".repeat(100_000) })));
  seen["several chunks"] = chunks > 1;
  seen.complete = complete;
  seen.accepted = await publish(Number(events));
  seen.targets = (await call(new api.QueueService(target, credentials), "getDepths", {})).response.targets?.length ?? 0;
  seen.currency = (await call(new api.UsageService(target, credentials), "getUsage", {})).response.currency;
  const found = await call(new api.FunctionService(target, credentials), "getFunction", { functionName });
  seen.state = found.response.configuration.state;
  console.log(JSON.stringify(seen));
}

main().catch((failure) => { console.error(failure); process.exit(1); });
