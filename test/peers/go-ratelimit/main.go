// Owns: starting envoyproxy/ratelimit, the rate limit service that `limit-service.test.ts` is judged by, from a module of ours that pins it. All of it is theirs.
package main

import (
	"github.com/envoyproxy/ratelimit/src/service_cmd/runner"
	"github.com/envoyproxy/ratelimit/src/settings"
)

func main() {
	service := runner.NewRunner(settings.NewSettings())
	service.Run()
}
