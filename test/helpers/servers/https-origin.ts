/** nginx as a web server over TLS that says it has HTTP/3 too, which it has not. */
import { readFile } from 'node:fs/promises'
import type { Certificate } from '../certificates.ts'
import type { Place, RealServer } from '../servers.ts'
import { makeFolder, startWithFolder } from './folder.ts'

export interface HttpsOriginOptions {
  /** IPv4 addresses, on port 443. */
  readonly hosts: readonly string[]
  readonly certificate: Certificate
  /** Path and content, `/page.html`. */
  readonly pages: Readonly<Record<string, string>>
}

export interface HttpsOrigin extends RealServer {
  /** The requests so far: method, path with its query, protocol. */
  requests(): Promise<readonly string[]>
}

export async function startHttpsOrigin(place: Place, options: HttpsOriginOptions): Promise<HttpsOrigin> {
  const { hosts, certificate, pages } = options
  const folder = await makeFolder('origin')
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  const locations = await Promise.all(
    Object.entries(pages).map(async ([path, content], at) => {
      const file = await folder.write(`page${at}`, content)
      return `location = ${path} { default_type ${path.endsWith('.html') ? 'text/html' : 'text/plain'}; alias ${file}; }`
    }),
  )
  const config = `
daemon off; master_process off; user root root; pid ${folder.path('pid')}; error_log stderr;
events { worker_connections 1024; }
http {
  log_format request '$request';
  access_log ${folder.path('requests')} request;
  ${kinds.map(kind => `${kind}_temp_path ${folder.path(kind)};`).join(' ')}
  server {
    ${hosts.map(host => `listen ${host}:443 ssl;`).join(' ')}
    ssl_certificate ${await folder.write('cert.pem', certificate.cert)};
    ssl_certificate_key ${await folder.write('key.pem', certificate.key)};
    add_header Alt-Svc 'h3=":443"; ma=86400' always;
    ${locations.join('\n    ')}
    location = /done { return 204; }
  }
}
`
  const args = ['-e', 'stderr', '-c', await folder.write('nginx.conf', config)]
  const nginx = await startWithFolder(folder, place, 443, 'nginx', args)
  const requests = async () => (await readFile(folder.path('requests'), 'utf8')).split('\n').slice(0, -1)
  return { ...nginx, requests }
}
