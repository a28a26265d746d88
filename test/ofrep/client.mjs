// Evaluates flags as a browser's application does, with the official OpenFeature
// SDK and OFREP provider, and prints what it saw.
//
//	node client.mjs BASE_URL [TOKEN]
import { OpenFeature } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';

const [baseUrl, token] = process.argv.slice(2);
const statuses = [];
const provider = new OFREPWebProvider({
  baseUrl,
  headers: token ? [['Authorization', `Bearer ${token}`]] : [],
  fetchImplementation: async (request, init) => {
    const response = await fetch(request, init);
    statuses.push(response.status);
    return response;
  },
});

await OpenFeature.setProviderAndWait(provider, { targetingKey: 'ada' });
const client = OpenFeature.getClient();
// A poll's request: nothing has changed, so that the answer is 304.
await provider.onContextChange?.({ targetingKey: 'ada' }, { targetingKey: 'ada', page: 'checkout' });

console.log(JSON.stringify({
  statuses,
  dark: client.getBooleanDetails('dark', false),
  form: client.getObjectValue('checkout.form', {}),
  limit: client.getNumberValue('limit', 0),
  greeting: client.getStringValue('greeting', ''),
  hidden: client.getBooleanDetails('maintenance', true),
  wrongKind: client.getStringDetails('dark', 'default'),
}));
await OpenFeature.close();
