// The Go instances of the run that ../mixed.toml describes.
package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
	"github.com/testground/sdk-go/sync"
)

// greeting is what instances of all languages tell each other.
type greeting struct {
	From string
	Text string
}

var greetings = sync.NewTopic("greetings", greeting{})

func main() {
	run.InvokeMap(map[string]interface{}{"meet": run.InitializedTestCaseFn(meet)})
}

// meet does what meet in ../main.js does.
func meet(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	mine := greeting{fmt.Sprintf("go-%d", init.GroupSeq), env.StringParam("greeting")}
	received := make(chan greeting)
	_, subscription, err := init.SyncClient.PublishSubscribe(ctx, greetings, mine, received)
	if err != nil {
		return err
	}
	var heard []string
	for len(heard) < env.TestInstanceCount {
		select {
		case one := <-received:
			heard = append(heard, one.From)
		case err := <-subscription.Done():
			return fmt.Errorf("heard only %s: %w", heard, err)
		}
	}
	sort.Strings(heard)
	env.RecordMessage("heard %s", strings.Join(heard, " "))
	_, err = init.SyncClient.SignalAndWait(ctx, "done", env.TestInstanceCount)
	return err
}
