// node server.mjs PORT REDIRECT_URI...: five people, three clients (one for each algorithm), a real provider.
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const [port, ...redirect_uris] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const PEOPLE = {
  verified: { email: "verified@example.com", email_verified: true, given_name: "Ada", family_name: "Lovelace" },
  unverified: { email: "verified@example.com", email_verified: false },
  nameless: {},
  loud: { email: "VERIFIED@Example.COM", email_verified: true },
  stringly: { email: "verified@example.com", email_verified: "false" },
};

function jwk(kid, type, options) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: "jwk" }), kid, use: "sig" };
}

const provider = new Provider(issuer, {
  clients: ["RS256", "PS256", "ES256"].map((alg) => ({
    client_id: `keel-${alg.toLowerCase()}`,
    client_secret: "the secret of keel + its % signs: at a real provider",
    redirect_uris,
    id_token_signed_response_alg: alg,
    token_endpoint_auth_method: "client_secret_post",
  })),
  jwks: {
    keys: [jwk("rsa", "rsa", { modulusLength: 2048 }), jwk("ec", "ec", { namedCurve: "P-256" })],
  },
  enabledJWA: { idTokenSigningAlgValues: ["RS256", "PS256", "ES256"] },
  cookies: { keys: ["a key of cookies, for tests"] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["given_name", "family_name"] },
  pkce: { required: () => true },
  ttl: { Session: 60, Grant: 60, Interaction: 60, AccessToken: 60, IdToken: 60 },
  findAccount: (_, id) =>
    Object.hasOwn(PEOPLE, id) && { accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) },
});

provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
