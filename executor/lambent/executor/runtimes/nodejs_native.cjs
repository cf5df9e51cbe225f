// What the runtime client asks of its native addon, in plain JavaScript, for machines without a C++ compiler:
// next() -> {bodyJson, headers}, done(id, json) and error(id, json, xray), which return at once. The post is on
// its way then; the next call waits for it, and an exit sends it again from a process that may block.

'use strict';

const http = require('node:http');
const { spawnSync } = require('node:child_process');

const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const api = '/2018-06-01/runtime/invocation/';
let underWay; // the post that nobody has answered yet
let answered = Promise.resolve();

function request(method, path, headers, body) {
  return new Promise((resolve, reject) => {
    const asked = http.request({ hostname, port, path, method, headers, agent }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(chunks).toString() });
      });
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

function post(path, json, headers) {
  const body = Buffer.from(json);
  const sent = { path, json, headers: { ...headers, 'Content-Type': 'application/json', 'Content-Length': body.length } };
  underWay = sent;
  answered = request('POST', path, sent.headers, body).then((answer) => {
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
const { path, json, headers } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
require('node:http').request({ hostname, port, path, method: 'POST', headers }).end(json);
`;
process.on('exit', () => {
  if (underWay) spawnSync(process.execPath, ['-e', AGAIN], { input: JSON.stringify(underWay), stdio: 'pipe' });
});

module.exports = {
  async next() {
    await answered;
    const event = await request('GET', `${api}next`, {});
    return { bodyJson: event.body, headers: event.headers };
  },
  done(id, json) {
    post(`${api}${id}/response`, json, {});
  },
  error(id, json, xray) {
    const headers = {};
    const type = JSON.parse(json).errorType;
    if (typeof type === 'string' && /^[\x20-\x7e]+$/.test(type)) {
      headers['Lambda-Runtime-Function-Error-Type'] = type;
    }
    if (xray && xray.length < 65536 && /^[\x20-\x7e]+$/.test(xray)) {
      headers['Lambda-Runtime-Function-XRay-Error-Cause'] = xray;
    }
    post(`${api}${id}/error`, json, headers);
  },
};
