// Owns: a control plane on go-control-plane, the judge of `xds-foreign-control.test.ts`. Serves ADS (both variants) without TLS on a free port of
// 127.0.0.1, which it prints as {"port": N}. Each line of standard input is a snapshot: {"version", "node", "clusters": [...], "endpoints": [...],
// "listeners": [...], "routes": [...]}, resources in protobuf's JSON. Prints each answer of a client: {"type", "version", "nonce", "error"} and each stream.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var printing sync.Mutex

func say(value any) {
	line, err := json.Marshal(value)
	must(err)
	printing.Lock()
	defer printing.Unlock()
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type given struct {
	Version   string            `json:"version"`
	Node      string            `json:"node"`
	Clusters  []json.RawMessage `json:"clusters"`
	Endpoints []json.RawMessage `json:"endpoints"`
	Listeners []json.RawMessage `json:"listeners"`
	Routes    []json.RawMessage `json:"routes"`
}

func read[M proto.Message](texts []json.RawMessage, empty func() M) []types.Resource {
	out := []types.Resource{}
	for _, text := range texts {
		message := empty()
		must(protojson.Unmarshal(text, message))
		out = append(out, message)
	}
	return out
}

type answer struct {
	Type    string `json:"type"`
	Version string `json:"version"`
	Nonce   string `json:"nonce"`
	Error   string `json:"error"`
}

func main() {
	snapshots := cache.NewSnapshotCache(true, cache.IDHash{}, nil)
	callbacks := server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discovery.DiscoveryRequest) error {
			say(answer{r.GetTypeUrl(), r.GetVersionInfo(), r.GetResponseNonce(), r.GetErrorDetail().GetMessage()})
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discovery.DeltaDiscoveryRequest) error {
			say(answer{r.GetTypeUrl(), "", r.GetResponseNonce(), r.GetErrorDetail().GetMessage()})
			return nil
		},
	}
	ads := server.NewServer(context.Background(), snapshots, callbacks)
	grpcServer := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, ads)
	at := "127.0.0.1:0"
	if len(os.Args) > 1 {
		at = "127.0.0.1:" + os.Args[1]
	}
	socket, err := net.Listen("tcp", at)
	must(err)
	go func() { must(grpcServer.Serve(socket)) }()
	say(map[string]int{"port": socket.Addr().(*net.TCPAddr).Port})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var g given
		must(json.Unmarshal(lines.Bytes(), &g))
		snapshot, err := cache.NewSnapshot(g.Version, map[resource.Type][]types.Resource{
			resource.ClusterType:  read(g.Clusters, func() *cluster.Cluster { return &cluster.Cluster{} }),
			resource.EndpointType: read(g.Endpoints, func() *endpoint.ClusterLoadAssignment { return &endpoint.ClusterLoadAssignment{} }),
			resource.ListenerType: read(g.Listeners, func() *listener.Listener { return &listener.Listener{} }),
			resource.RouteType:    read(g.Routes, func() *route.RouteConfiguration { return &route.RouteConfiguration{} }),
		})
		must(err)
		must(snapshots.SetSnapshot(context.Background(), g.Node, snapshot))
	}
}
