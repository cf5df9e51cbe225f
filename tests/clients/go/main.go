// A Go client of the public gRPC API: generated stubs of proto/lambent/v1 and nothing of Lambent's. It does what it
// is told to on the command line and prints what it saw as JSON, for tests/e2e/test_grpc_clients.py.
//
//	go run . 127.0.0.1:9090 FUNCTION EVENTS
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	lambentv1 "lambent/v1"
)

func main() {
	target, function := os.Args[1], os.Args[2]
	events, err := strconv.Atoi(os.Args[3])
	must(err)
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	seen := map[string]any{}
	seen["health"] = health(ctx, conn)
	client := lambentv1.NewInvocationServiceClient(conn)
	invoke(ctx, client, function, seen)
	refused(ctx, client, seen)
	deadline(ctx, client, function, seen)
	stream(ctx, client, function, seen)
	publish(ctx, client, function, events, seen)
	depths, err := lambentv1.NewQueueServiceClient(conn).GetDepths(ctx, &lambentv1.GetDepthsRequest{})
	must(err)
	seen["targets"] = len(depths.GetTargets())
	usage, err := lambentv1.NewUsageServiceClient(conn).GetUsage(ctx, &lambentv1.GetUsageRequest{By: "function"})
	must(err)
	seen["currency"] = usage.GetCurrency()
	found, err := lambentv1.NewFunctionServiceClient(conn).GetFunction(ctx, &lambentv1.GetFunctionRequest{FunctionName: function})
	must(err)
	seen["state"] = found.GetConfiguration().GetState().String()
	must(json.NewEncoder(os.Stdout).Encode(seen))
}

func health(ctx context.Context, conn *grpc.ClientConn) string {
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	must(err)
	return answer.GetStatus().String()
}

func invoke(ctx context.Context, client lambentv1.InvocationServiceClient, function string, seen map[string]any) {
	var trailer metadata.MD
	request := &lambentv1.InvokeRequest{FunctionName: function, Payload: []byte(`{"from":"Go"}`)}
	answer, err := client.Invoke(ctx, request, grpc.Trailer(&trailer))
	must(err)
	seen["payload"] = string(answer.GetPayload())
	seen["request id"] = trailer.Get("x-amzn-requestid")[0] == answer.GetRequestId()
}

// refused tells what an error says without its text being read.
func refused(ctx context.Context, client lambentv1.InvocationServiceClient, seen map[string]any) {
	_, err := client.Invoke(ctx, &lambentv1.InvokeRequest{FunctionName: "no-such-function"})
	state := status.Convert(err)
	seen["code"] = state.Code().String()
	for _, detail := range state.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			seen["reason"] = info.GetReason()
		}
	}
}

func deadline(ctx context.Context, client lambentv1.InvocationServiceClient, function string, seen map[string]any) {
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err := client.Invoke(short, &lambentv1.InvokeRequest{FunctionName: function, Payload: []byte(`{"sleep":1}`)})
	seen["deadline"] = status.Code(err).String()
}

func stream(ctx context.Context, client lambentv1.InvocationServiceClient, function string, seen map[string]any) {
	payload, err := json.Marshal(map[string]string{"text": string(make([]byte, 100_000))})
	must(err)
	answers, err := client.InvokeStream(ctx, &lambentv1.InvokeStreamRequest{FunctionName: function, Payload: payload})
	must(err)
	chunks := 0
	for {
		message, err := answers.Recv()
		if err == io.EOF {
			break
		}
		must(err)
		if complete := message.GetComplete(); complete != nil {
			seen["complete"] = complete.GetExecutedVersion()
		} else {
			chunks++
		}
	}
	seen["several chunks"] = chunks > 1
}

func publish(ctx context.Context, client lambentv1.InvocationServiceClient, function string, count int, seen map[string]any) {
	both, err := client.PublishEvents(ctx)
	must(err)
	go func() {
		for number := range count {
			event := &lambentv1.PublishEvent{Id: strconv.Itoa(number), FunctionName: function}
			must(both.Send(&lambentv1.PublishEventsRequest{Events: []*lambentv1.PublishEvent{event}}))
		}
		must(both.CloseSend())
	}()
	accepted := map[string]bool{}
	for {
		message, err := both.Recv()
		if err == io.EOF {
			break
		}
		must(err)
		for _, result := range message.GetResults() {
			if result.GetAccepted().GetRequestId() == "" {
				log.Fatalf("%s was refused: %s", result.GetId(), result.GetError().GetMessage())
			}
			accepted[result.GetId()] = true
		}
	}
	seen["accepted"] = len(accepted)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
