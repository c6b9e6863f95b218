// Two instances measure the round-trip time between them over TCP.
// The plan uses the published Go SDK and nothing of this repository.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
	"github.com/testground/sdk-go/sync"
)

const done = sync.State("done")

// addresses carries where the first instance listens.
var addresses = sync.NewTopic("addresses", "")

func main() {
	run.InvokeMap(map[string]interface{}{
		"ping": run.InitializedTestCaseFn(ping),
	})
}

func ping(env *runtime.RunEnv, init *run.InitContext) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	role := dial
	if init.GlobalSeq == 1 {
		role = listen
	}
	if err := role(ctx, env, init); err != nil {
		return err
	}
	_, err := init.SyncClient.SignalAndWait(ctx, done, env.TestInstanceCount)
	return err
}

// listen sends every line back to where it came from.
func listen(ctx context.Context, env *runtime.RunEnv, init *run.InitContext) error {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: init.NetClient.MustGetDataNetworkIP()})
	if err != nil {
		return err
	}
	defer listener.Close()
	deadline, _ := ctx.Deadline()
	listener.SetDeadline(deadline)

	env.RecordMessage("listening on %s", listener.Addr())
	if _, err := init.SyncClient.Publish(ctx, addresses, listener.Addr().String()); err != nil {
		return err
	}
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()

	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if _, err := fmt.Fprintln(conn, lines.Text()); err != nil {
			return err
		}
	}
	return nil
}

// dial sends numbered lines and records how long each takes to come back.
func dial(ctx context.Context, env *runtime.RunEnv, init *run.InitContext) error {
	found := make(chan string, 1)
	subscription, err := init.SyncClient.Subscribe(ctx, addresses, found)
	if err != nil {
		return err
	}
	var address string
	select {
	case address = <-found:
	case err := <-subscription.Done():
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)

	rounds := env.IntParam("rounds")
	var total time.Duration
	lines := bufio.NewReader(conn)
	for round := 1; round <= rounds; round++ {
		start := time.Now()
		if _, err := fmt.Fprintf(conn, "ping %d\n", round); err != nil {
			return err
		}
		answer, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("ping %d\n", round); answer != want {
			return fmt.Errorf("sent %q, got back %q", want, answer)
		}
		rtt := time.Since(start)
		total += rtt
		env.R().RecordPoint("rtt_ms", float64(rtt)/float64(time.Millisecond))
	}
	env.RecordMessage("%d pings to %s: %s on average", rounds, address, total/time.Duration(rounds))
	return nil
}
