// Starts AWS's unmodified runtime client, which lies beside this file as index.mjs. Two forms of it exist: up to
// version 3 it exports `run`, from version 4 it runs when it is imported.
//
// Where its native addon could not be built, the same three calls are made by native.cjs.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const here = import.meta.dirname ?? new URL('.', import.meta.url).pathname.replace(/\/$/, '');

if (process.env._LAMBENT_FUNCTION) require('./ahead.cjs')();

if (!existsSync(`${here}/rapid-client.node`)) {
  const Module = require('node:module');
  const load = Module._load;
  Module._load = function (request, ...rest) {
    if (request !== './rapid-client.node') return load.call(this, request, ...rest);
    Module._load = load; // asked for once, before any code of the function's
    return require('./native.cjs');
  };
}

if ((process.env.NODE_PATH ?? '').split(':').some((folder) => folder && existsSync(folder))) {
  const { places, resolveNow } = await import('./layers.mjs');
  const { register, registerHooks } = require('node:module');
  if (places.length && registerHooks) registerHooks({ resolve: resolveNow });
  else if (places.length) register('./layers.mjs', import.meta.url);
}

const client = await import('./index.mjs');
if (client.run) await client.run(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
