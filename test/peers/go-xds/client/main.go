// Owns: the Go program of `xds-proxyless.test.ts`, on grpc-go. What it does: see ../../xds-node.mjs.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
)

const path = "/test.Echo/Unary"

// raw passes messages as they are.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) ([]byte, error) {
	return *v.(*[]byte), nil
}
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func say(value any) {
	line, err := json.Marshal(value)
	must(err)
	fmt.Println(string(line))
}

func serve(port, name string) {
	creds, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	must(err)
	echo := func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		if method != path {
			return errors.New("no such method")
		}
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		answer := []byte(name + " " + string(request))
		return stream.SendMsg(&answer)
	}
	server, err := xds.NewGRPCServer(grpc.Creds(creds), grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(echo),
		xds.ServingModeCallback(func(_ net.Addr, args xds.ServingModeChangeArgs) {
			if args.Err != nil {
				fmt.Fprintln(os.Stderr, args.Mode, args.Err)
			}
		}))
	must(err)
	// Known services only are served by an xDS server; one without methods leads all to the handler above.
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	must(err)
	say(map[string]bool{"ready": true})
	must(server.Serve(listener))
}

func call(target string) {
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	must(err)
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	must(err)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		request, answer := []byte(strings.TrimSpace(lines.Text())), []byte(nil)
		if err := connection.Invoke(ctx, path, &request, &answer); err != nil {
			state := status.Convert(err)
			say([]string{codeNames[state.Code()], state.Message()})
		} else {
			say([]string{"OK", string(answer)})
		}
		cancel()
	}
}

// As the standard and the other programs write them.
var codeNames = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
	} else {
		call(os.Args[2])
	}
}
