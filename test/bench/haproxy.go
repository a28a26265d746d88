package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// startHAProxy runs an HAProxy on core 0 that verifies the session cookie of
// every request and names the tenant to the origin: what of our chain it can do by
// configuration alone. It knows no EdDSA, and keeps no verified tokens.
func startHAProxy(ctx context.Context, dir, origin string, port int) (*exec.Cmd, error) {
	config := fmt.Sprintf(`global
	nbthread 1
	log /dev/null local0
defaults
	mode http
	timeout client 60s
	timeout connect 1s
	timeout server 10s
frontend edge
	bind 127.0.0.1:%d
	http-request del-header x-tenant-id
	http-request set-var(txn.token) req.cook(session)
	http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')
	http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }
	http-request deny deny_status 401 unless { var(txn.token),jwt_verify(txn.alg,"%s") -m int 1 }
	http-request set-var(txn.iss) var(txn.token),jwt_payload_query('$.iss')
	http-request deny deny_status 401 unless { var(txn.iss) -m str gatehouse:bench }
	http-request set-var(txn.now) date()
	http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
	http-request deny deny_status 401 unless { var(txn.exp),sub(txn.now) -m int gt 0 }
	http-request set-header x-tenant-id %%[var(txn.token),jwt_payload_query('$.tenant_id')]
	http-request set-header x-request-id %%[uuid()]
	default_backend region
backend region
	http-reuse always
	server eu %s
`, port, filepath.Join(dir, "rsa.pem"), origin)
	path := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "taskset", "-c", "0", "haproxy", "-db", "-f", path)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if !answers(port) {
		stop(cmd)
		return nil, fmt.Errorf("haproxy does not answer:\n%s", log.String())
	}
	return cmd, nil
}
