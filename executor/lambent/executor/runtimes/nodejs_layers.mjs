// ES modules find what layers bring, as in AWS's runtimes from nodejs18.x on: Node.js itself looks through NODE_PATH
// for require() alone. Used only where a folder of NODE_PATH is there.

import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';

const NODE_MODULES = /\/node_modules\/?$/;

let found;

// A module in the folder above each would look into it. To be called when the function's layers are there.
export function places() {
  found ??= (process.env.NODE_PATH ?? '')
    .split(':')
    .filter((folder) => NODE_MODULES.test(folder) && existsSync(folder))
    .map((folder) => pathToFileURL(`${dirname(folder)}/any.mjs`).href);
  return found;
}

function elsewhere(specifier, error) {
  return error.code === 'ERR_MODULE_NOT_FOUND' && /^[^./]/.test(specifier) && !/^\w+:/.test(specifier);
}

// For module.registerHooks, which is in the same thread.
export function resolveNow(specifier, context, next) {
  try {
    return next(specifier, context);
  } catch (error) {
    if (!elsewhere(specifier, error)) throw error;
    for (const parentURL of places()) {
      try {
        return next(specifier, { ...context, parentURL });
      } catch {
        // the next one may have it; if none has, the first error says so
      }
    }
    throw error;
  }
}

// For module.register, in versions that have no other.
export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (!elsewhere(specifier, error)) throw error;
    for (const parentURL of places()) {
      try {
        return await next(specifier, { ...context, parentURL });
      } catch {
        // as above
      }
    }
    throw error;
  }
}
