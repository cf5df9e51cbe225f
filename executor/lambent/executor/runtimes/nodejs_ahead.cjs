// A process that was started before its function is known waits here for it: the variables that it would have been
// started with. What takes time and depends on no function is done before that.

'use strict';

const fs = require('node:fs');

const NAME = '_LAMBENT_FUNCTION';
const MOST = 1 << 16; // of one message

module.exports = function become() {
  const place = Number(process.env[NAME]);
  for (const name of ['assert', 'async_hooks', 'child_process', 'http', 'https', 'module', 'net', 'stream', 'util']) {
    require(`node:${name}`);
  }
  fs.writeSync(place, JSON.stringify({ step: 'parked' }));
  const message = Buffer.alloc(MOST);
  const size = fs.readSync(place, message);
  if (size === 0) process.exit(0); // nobody wants it any more
  const { env } = JSON.parse(message.toString('utf8', 0, size));
  for (const name of Object.keys(process.env)) {
    if (!(name in env)) delete process.env[name];
  }
  for (const [name, value] of Object.entries(env)) {
    if (process.env[name] !== value) process.env[name] = value;
  }
  process.chdir('/var/task');
  delete require.cache[__filename];
  fs.closeSync(place); // the driver takes that as: it is the function's from here on
};
