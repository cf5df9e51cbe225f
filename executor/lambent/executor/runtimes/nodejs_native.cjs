// What the runtime client asks of its native addon, in plain JavaScript, for machines without a C++ compiler:
// next() -> {bodyJson, headers}, done(id, json) and error(id, json, xray), which return at once. The post is on
// its way then; the next call waits for it, and an exit sends it again from a process that may block.
//
// One connection, one request at a time, on a bare socket: node:http takes several times the processor time, which
// a function of 128 MB has little of. The server is Lambent's Runtime API, whose answers have a Content-Length.

'use strict';

const net = require('node:net');

const address = process.env.AWS_LAMBDA_RUNTIME_API;
const [host, port] = address.split(':');
const api = '/2018-06-01/runtime/invocation/';
const NOTHING = Buffer.alloc(0);
let socket;
let received = NOTHING;
let waiting; // {resolve, reject} of the request under way
let underWay; // the post that nobody has answered yet, as text
let answered = Promise.resolve();

function connect() {
  socket = net.connect({ host, port: Number(port), noDelay: true });
  socket.on('data', (chunk) => {
    received = received.length ? Buffer.concat([received, chunk]) : chunk;
    const answer = parse();
    if (answer) settle('resolve', answer);
  });
  socket.on('error', (error) => settle('reject', error));
  socket.on('close', () => {
    socket = undefined;
    settle('reject', new Error('the Runtime API closed the connection'));
  });
}

function settle(how, value) {
  const asked = waiting;
  waiting = undefined;
  socket?.unref(); // between requests it keeps no event loop alive, as "beforeExit" needs it
  asked?.[how](value);
}

function parse() {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first, ...lines] = received.latin1Slice(0, end).split('\r\n');
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const until = end + 4 + Number(headers['content-length'] ?? 0);
  if (received.length < until) return undefined;
  const body = received.utf8Slice(end + 4, until);
  received = received.length > until ? received.subarray(until) : NOTHING;
  return { status: Number(first.split(' ')[1]), headers, body };
}

function request(text) {
  if (!socket) connect();
  socket.ref();
  return new Promise((resolve, reject) => {
    waiting = { resolve, reject };
    socket.write(text);
  });
}

function post(path, json, headers) {
  const sent =
    `POST ${path} HTTP/1.1\r\nHost: ${address}\r\nContent-Type: application/json\r\n` +
    `Content-Length: ${Buffer.byteLength(json)}\r\n${headers}\r\n${json}`;
  underWay = sent;
  answered = request(sent).then((answer) => {
    underWay = undefined;
    if (answer.status >= 300) {
      const what = path.endsWith('/error') ? 'failure' : 'success';
      process.stdout.write(
        `Failed to post handler ${what} response. Http response code: ${answer.status}. ${answer.body}\n`,
      );
    }
  });
  answered.catch(() => {}); // next() raises it
}

// In a process of its own, because this one is ending and runs no more callbacks.
const AGAIN = `
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const socket = require('node:net').connect({ host, port }, () => socket.write(require('node:fs').readFileSync(0)));
socket.on('data', () => socket.destroy());
`;
process.on('exit', () => {
  if (underWay) require('node:child_process').spawnSync(process.execPath, ['-e', AGAIN], { input: underWay });
});

function header(name, value) {
  return typeof value === 'string' && /^[\x20-\x7e]{1,65000}$/.test(value) ? `${name}: ${value}\r\n` : '';
}

module.exports = {
  async next() {
    await answered;
    const event = await request(`GET ${api}next HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
    if (event.status !== 200) throw new Error(`Failed to get next invocation, error ${event.status}`);
    return { bodyJson: event.body, headers: event.headers };
  },
  done(id, json) {
    post(`${api}${id}/response`, json, '');
  },
  error(id, json, xray) {
    const type = header('Lambda-Runtime-Function-Error-Type', JSON.parse(json).errorType);
    post(`${api}${id}/error`, json, type + header('Lambda-Runtime-Function-XRay-Error-Cause', xray));
  },
};
