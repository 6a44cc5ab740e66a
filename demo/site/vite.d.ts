/** What Vite makes of an import's query. */
declare module '*?worker&url' {
  const address: string;
  export = address;
}
