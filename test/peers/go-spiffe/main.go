// A program of the SPIFFE project's own library (go-spiffe) that lives on the Workload API alone: `serve ADDRESS` answers over mutual TLS with the name
// of its caller, `call ADDRESS` calls over mutual TLS and says whom it has reached, `watch COUNT` prints the serial numbers of COUNT identities as they come,
// `bundle DOMAIN URL FILE` fetches a federation bundle over HTTPS by the roots in FILE.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type watcher struct {
	left int
	last string
	done chan struct{}
}

func (w *watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	serial := update.DefaultSVID().Certificates[0].SerialNumber.String()
	if serial == w.last || w.left == 0 {
		return
	}
	w.last = serial
	fmt.Println(serial)
	if w.left--; w.left == 0 {
		close(w.done)
	}
}

func (w *watcher) OnX509ContextWatchError(err error) {
	fmt.Fprintln(os.Stderr, err)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if os.Args[1] == "bundle" {
		// Fetched over HTTPS that is itself authenticated by the roots in the file.
		domain := spiffeid.RequireTrustDomainFromString(os.Args[2])
		roots, err := os.ReadFile(os.Args[4])
		fail(err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(roots)
		bundle, err := federation.FetchBundle(ctx, domain, os.Args[3], federation.WithWebPKIRoots(pool))
		fail(err)
		hint, _ := bundle.RefreshHint()
		for _, authority := range bundle.X509Authorities() {
			fmt.Println(authority.URIs[0], hint)
		}
		return
	}
	if os.Args[1] == "watch" {
		count, err := strconv.Atoi(os.Args[2])
		fail(err)
		watch := &watcher{left: count, done: make(chan struct{})}
		go func() { _ = workloadapi.WatchX509Context(ctx, watch) }()
		select {
		case <-watch.done:
		case <-ctx.Done():
			fail(ctx.Err())
		}
		return
	}
	source, err := workloadapi.NewX509Source(ctx)
	fail(err)
	defer source.Close()
	svid, err := source.GetX509SVID()
	fail(err)
	members := tlsconfig.AuthorizeMemberOf(svid.ID.TrustDomain())
	address := os.Args[2]
	if os.Args[1] == "serve" {
		server := http.Server{
			Addr:      address,
			TLSConfig: tlsconfig.MTLSServerConfig(source, source, members),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				caller, err := spiffeid.FromURI(r.TLS.PeerCertificates[0].URIs[0])
				if err != nil {
					http.Error(w, err.Error(), http.StatusForbidden)
					return
				}
				fmt.Fprintf(w, "hello %s", caller)
			}),
		}
		fail(server.ListenAndServeTLS("", ""))
	}
	var peer string
	config := tlsconfig.MTLSClientConfig(source, source, members)
	config.VerifyConnection = func(state tls.ConnectionState) error {
		peer = state.PeerCertificates[0].URIs[0].String()
		return nil
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	answer, err := client.Get("https://" + address + "/")
	fail(err)
	body, err := io.ReadAll(answer.Body)
	fail(err)
	fmt.Printf("%s says: %s\n", peer, body)
}
