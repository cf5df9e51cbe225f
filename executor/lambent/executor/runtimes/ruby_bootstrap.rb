# The runtime client for Ruby: it speaks the Runtime API as AWS's does, whose gem comes from a registry that
# Lambent does not ask. Handlers, error types and the context object are AWS's. Copied into the runtime folder.
#
# Standard library only; runs on Ruby 2.7 and later.

require 'json'
require 'net/http'

module Lambent
  API = '/2018-06-01/runtime'
  MOST = 1 << 16 # of one message to a process that waits

  class HandlerNotFound < StandardError; end
  class MalformedHandlerName < StandardError; end
  class MarshalError < StandardError; end

  # AWS: "AWS Lambda context object in Ruby".
  class Context
    attr_reader :aws_request_id, :invoked_function_arn, :deadline_ms, :identity, :client_context, :tenant_id

    def initialize(event)
      @aws_request_id = event['Lambda-Runtime-Aws-Request-Id']
      @invoked_function_arn = event['Lambda-Runtime-Invoked-Function-Arn']
      @deadline_ms = event['Lambda-Runtime-Deadline-Ms'].to_i
      @identity = parsed(event['Lambda-Runtime-Cognito-Identity'])
      @client_context = parsed(event['Lambda-Runtime-Client-Context'])
      @tenant_id = event['Lambda-Runtime-Aws-Tenant-Id']
    end

    def function_name = ENV['AWS_LAMBDA_FUNCTION_NAME']
    def function_version = ENV['AWS_LAMBDA_FUNCTION_VERSION']
    def memory_limit_in_mb = ENV['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']
    def log_group_name = ENV['AWS_LAMBDA_LOG_GROUP_NAME']
    def log_stream_name = ENV['AWS_LAMBDA_LOG_STREAM_NAME']

    def get_remaining_time_in_millis
      [@deadline_ms - (Process.clock_gettime(Process::CLOCK_REALTIME) * 1000).to_i, 0].max
    end

    private

    def parsed(text) = text && JSON.parse(text)
  end

  # One connection that is kept; no time limit, since the next event may be hours away.
  class Client
    def initialize(address)
      host, port = address.split(':')
      @http = Net::HTTP.new(host, port.to_i, nil)
      @http.read_timeout = nil
      @http.keep_alive_timeout = 3600
      @http.max_retries = 0
      @http.start
    end

    def next_event
      answer = @http.get("#{API}/invocation/next")
      raise "the Runtime API answered #{answer.code}" unless answer.is_a?(Net::HTTPSuccess)

      answer
    end

    def close = @http.finish

    def respond(id, body) = post("invocation/#{id}/response", body, 'Content-Type' => 'application/json')
    def fail(id, error, kind) = fault("invocation/#{id}/error", error, kind)
    def fail_init(error) = fault('init/error', error, 'Init')

    private

    def fault(path, error, kind)
      type = Lambent.error_type(error, kind)
      body = { errorMessage: error.message, errorType: type, stackTrace: error.backtrace || [] }
      STDERR.puts("Error raised from handler method\n#{JSON.generate(body)}")
      post(path, JSON.generate(body), 'Content-Type' => 'application/json',
                                      'Lambda-Runtime-Function-Error-Type' => type.gsub(/[^\x20-\x7e]/, ''))
    end

    def post(path, body, headers)
      answer = @http.post("#{API}/#{path}", body, headers)
      return if answer.is_a?(Net::HTTPSuccess)

      STDERR.puts("Failed to post handler response. Http response code: #{answer.code}. #{answer.body}")
    end
  end

  OWN_TYPES = { HandlerNotFound => 'Runtime.HandlerNotFound', MalformedHandlerName => 'Runtime.MalformedHandlerName',
                MarshalError => 'Runtime.MarshalError' }.freeze

  # AWS: the class in brackets, after where it was raised: "Function<RuntimeError>", "Init<LoadError>".
  def self.error_type(error, kind) = OWN_TYPES[error.class] || "#{kind}<#{error.class.name}>"

  # "folder/file.method" or "folder/file.Module::Class.method".
  def self.load_handler(text)
    file, *path = text.split('.')
    unless [1, 2].include?(path.size) && !file.empty?
      raise MalformedHandlerName, "Invalid handler #{text}, must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD " \
                                  'where FILENAME corresponds with an existing Ruby source file FILENAME.rb, CLASS is an ' \
                                  'optional module/class namespace and METHOD is a callable method.'
    end
    require "./#{file}"
    receiver = path.size == 2 ? Object.const_get(path[0]) : TOPLEVEL_BINDING.receiver
    unless receiver.respond_to?(path[-1], true)
      raise HandlerNotFound, "Undefined local variable or method #{path[-1]} for #{receiver}"
    end

    receiver.method(path[-1])
  end

  def self.serve(client, handler)
    loop do
      event = client.next_event
      context = Context.new(event)
      ENV['_X_AMZN_TRACE_ID'] = event['Lambda-Runtime-Trace-Id']
      id = context.aws_request_id
      begin
        body = event.body.force_encoding(Encoding::UTF_8)
        result = handler.call(event: JSON.parse(body), context: context)
        client.respond(id, marshalled(result))
      rescue NoMemoryError, SystemExit, SignalException
        raise
      rescue Exception => error # a function may raise anything, and its caller is told
        client.fail(id, error, 'Function')
      end
    end
  end

  def self.marshalled(result)
    JSON.generate(result)
  rescue StandardError => error
    raise MarshalError, "Unable to marshal response: #{error.message}"
  end

  # A process that was started before its function was known waits here for it, and becomes what a plain start with
  # the function's variables would be. The driver sends them, and the spawner that the code is mounted.
  def self.wait(place)
    rehearse
    place.send('{"step":"parked"}', 0)
    mounted = variables = nil
    until mounted && variables
      text = place.recv(MOST)
      exit!(0) if text.nil? || text.empty? # nobody wants it any more
      message = JSON.parse(text)
      if message['error']
        place.send(text, 0)
        exit!(0)
      end
      mounted ||= message['step'] == 'mounted'
      variables ||= message.dig('function', 'env')
    end
    ENV.replace(variables)
    Dir.chdir('/var/task')
    Gem.clear_paths if defined?(Gem) # those of layers and of the function are there only now
    place.close
  end

  # What every start does is done once: much of it is loaded and compiled at its first use.
  def self.rehearse
    server = TCPServer.new('127.0.0.1', 0)
    answering = Thread.new do
      connection = server.accept
      while (line = connection.gets)
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") if line == "\r\n"
      end
      connection.close
    end
    client = Client.new("127.0.0.1:#{server.addr[1]}")
    Context.new(client.next_event)
    marshalled(JSON.parse('{"some": ["thing"]}'))
    client.close
    answering.join
    server.close
    Process.respond_to?(:warmup) ? Process.warmup : GC.start
  end

  def self.run
    $stdout.sync = true
    $stderr.sync = true
    wait(Socket.for_fd(Integer(ENV['_LAMBENT_FUNCTION']))) if ENV['_LAMBENT_FUNCTION']
    client = Client.new(ENV.fetch('AWS_LAMBDA_RUNTIME_API'))
    begin
      handler = load_handler(ENV.fetch('_HANDLER'))
    rescue Exception => error # a syntax error is no StandardError
      raise if error.is_a?(SystemExit)

      client.fail_init(error)
      exit(1)
    end
    serve(client, handler)
  end
end

Lambent.run
