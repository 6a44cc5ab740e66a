/** Where a browser keeps tuning records: IndexedDB, one for each adapter. */
import { checkTable } from '../3-plan/tuning.ts';
import { SardonyxError } from '../core/errors.ts';
import type { TuningRecord } from './index.ts';

const DATABASE = 'sardonyx';
const STORE = 'tuning';

/**
 * Keeps a record in this origin's IndexedDB, instead of an earlier one for the same adapter. @throws device_unavailable
 * where there is no IndexedDB (Node): write the record as JSON
 */
export async function saveTuning(record: TuningRecord): Promise<void> {
  await inStore('readwrite', (store) => store.put(record, record.adapter));
}

/**
 * The records that were kept, of all adapters: `Session.load` takes the list as `tuning`. @throws device_unavailable
 * where there is no IndexedDB
 */
export async function loadTuning(): Promise<TuningRecord[]> {
  const all = await inStore<unknown[]>('readonly', (store) => store.getAll() as IDBRequest<unknown[]>);
  return all.filter((r): r is TuningRecord => {
    try {
      checkTable(r);
      return true;
    } catch {
      return false; // of another version
    }
  });
}

async function inStore<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  if (typeof indexedDB === 'undefined')
    throw new SardonyxError('device_unavailable', 'there is no IndexedDB here; keep the record as JSON');
  const database = await opened();
  try {
    return await settled(work(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

function opened(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => void request.result.createObjectStore(STORE);
  return settled(request);
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () =>
      reject(
        new SardonyxError('device_unavailable', `IndexedDB refuses: ${request.error?.message}`, [], {
          cause: request.error,
        }),
      );
  });
}
