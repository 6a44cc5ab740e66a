/**
 * Which operators a model has, read ahead of the rest: a small part of parsing, so that what they need can be fetched
 * during it.
 */
import { opName } from './proto.ts';
import { type Finish, type Read, readerOf, readMessage, schemaOf, type Sparse } from './wire.ts';

const NODES = /* @__PURE__ */ schemaOf({
  model: 'graph 7 graph, functions 25 function*',
  graph: 'nodes 1 node*',
  function: 'nodes 7 node*',
  node: 'op 4 text, attrs 5 attribute*, domain 7 text',
  attribute: 'graph 6 graph, graphs 11 graph*',
});

/**
 * The operators that nodes of a model name, in bodies and functions too. Of a broken model those before the break: its
 * parser says what is wrong.
 */
export function operatorsNamed(from: Uint8Array | Sparse): ReadonlySet<string> {
  const names = new Set<string>();
  const finish: Finish = {
    node: ({ fields: { op, domain } }: Read & { readonly fields: { readonly op: string; readonly domain: string } }) =>
      void names.add(opName(domain, op)),
  };
  try {
    readMessage(readerOf(from), NODES, finish, 'model');
  } catch {
    // Parsing reports it.
  }
  return names;
}
