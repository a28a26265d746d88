/** @type {import('next').NextConfig} */
export default {
  output: 'standalone', // .next/standalone/server.js runs without node_modules
  outputFileTracingRoot: import.meta.dirname,
  generateBuildId: () => 'test',
  headers: async () => [
    // A group for each product: the edge forgets its pages, and their data, at once (RFC 9875).
    { source: '/products/:id', headers: [{ key: 'Cache-Groups', value: '"product-:id"' }] },
  ],
}
